"""`penstock serve`, and `penstock worker`, as processes of their own on a database of the benchmark's server."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.client import Client
from bench.data import FOLDER
from bench.loads import PENSTOCK
from bench.processes import Command, ProgramFailedError
from bench.server import Server

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0  # above the default SHUTDOWN_GRACE_SECONDS
_POLL_SECONDS = 0.01
# What would send the files, the events or the links elsewhere, or refuse what is sent. An empty variable counts as not set.
_UNSET = ("NATS_URL", "S3_BUCKET", "PUBLIC_URL", "MAX_UPLOAD_BYTES", "HTTP_SERVER_HOST", "HTTP_SERVER_PORT", "HTTP_PORT", "PORT")


class Memory:
    """Resident memory of a process, in bytes, from Linux's /proc; None elsewhere."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def now(self) -> int | None:
        return self._read("VmRSS")

    def peak(self) -> int | None:
        """Since the start, or since `forget_peak`."""
        return self._read("VmHWM")

    def forget_peak(self) -> None:
        if self._folder.exists():
            (self._folder / "clear_refs").write_text("5", encoding="ascii")

    def _read(self, name: str) -> int | None:
        if not self._folder.exists():
            return None
        lines = (self._folder / "status").read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


@dataclass(frozen=True, slots=True)
class Site:
    """A server that answers; `environment` is that in which a worker finds its database and storage."""

    client: Client
    memory: Memory
    conninfo: str
    environment: Mapping[str, str]
    folder: Path


@contextmanager
def served(server: Server, *, worker: bool, environment: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A server on an empty database with a storage folder of its own in bench/data, both removed at the end.

    `environment` goes before its settings. Raises ProgramFailedError if it does not answer or does not stop.
    """
    FOLDER.mkdir(exist_ok=True)
    with server.database(with_table=False) as conninfo, tempfile.TemporaryDirectory(prefix="service-", dir=FOLDER) as name:
        folder, port = Path(name), free_port()
        settings = {
            **dict.fromkeys(_UNSET, ""),
            "DATABASE_URL": conninfo,
            "PENSTOCK_DATA_DIR": str(folder / "files"),
            "LOG_FORMAT": "json",
            **(environment or {}),
        }
        options = () if worker else ("--no-worker",)
        with _running(folder, settings, "serve", "--port", str(port), *options) as process, Client(port) as client:
            answering(process, client, folder / "serve.log", "/ready")
            yield Site(client, Memory(process.pid), conninfo, settings, folder)


@contextmanager
def working(site: Site) -> Iterator[None]:
    """A worker beside the server."""
    with _running(site.folder, site.environment, "worker"):
        yield


@contextmanager
def _running(folder: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    # In its folder, so that no .env of the project has a part in it.
    with started([PENSTOCK, *arguments], folder / f"{arguments[0]}.log", environment, folder) as process:
        yield process


@contextmanager
def started(command: Command, log: Path, environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs in `folder` until it is told to stop. Raises ProgramFailedError if it does not."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
            cwd=folder,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _stop(process, log)


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise ProgramFailedError(f"{log.stem} did not stop", _end_of(log)) from None


def answering(process: subprocess.Popen[bytes], client: Client, log: Path, path: str) -> None:
    """Wait until the address says 200. Raises ProgramFailedError if it does not come to that."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if client.answers(path):
            return
        time.sleep(_POLL_SECONDS)
    raise ProgramFailedError(f"{log.stem} does not answer", _end_of(log))


def _end_of(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
