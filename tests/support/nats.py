"""NATS with JetStream for tests: the one that `PENSTOCK_TEST_NATS_URL` names, else one of the test's own. `.ci/services.sh` starts one.

A server of the test's own needs the program `nats-server`, and may be killed and started again; it lies in the folder of the run and is
cleared away with it, whatever way the run ends.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nats
import pytest
from nats.js.errors import NotFoundError

from tests.support.postgres import RUN_FOLDER
from tests.support.waiting import until
from tests.support.watchdog import NATS_PID_FILE

URL = "PENSTOCK_TEST_NATS_URL"
_PROGRAM = "nats-server"
_SECONDS = 30
_PORTS_TRIED = 5


class NatsServer:
    """A server of the test's own, with its messages in a folder that outlives its process."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.options = options  # beside its place; may be changed between a stop and a start
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers. At the port that it had before, if it ran before."""
        for _ in range(_PORTS_TRIED if self.port == 0 else 1):
            port = self.port or _free_port()
            if self._started(port):
                self.port = port
                return
        raise RuntimeError(f"{_PROGRAM} did not start: {(self._folder / 'log').read_text()}")

    def kill(self) -> None:
        """As a crash does. Returns when the process is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _started(self, port: int) -> bool:
        pid_file = self._folder / NATS_PID_FILE
        place = ["-a", "127.0.0.1", "-p", str(port), "-sd", str(self._folder / "store"), "-l", str(self._folder / "log")]
        process = subprocess.Popen(
            [self._program, "-js", *place, "-P", str(pid_file), *self.options], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._process = process
        until(lambda: process.poll() is not None or _answers(port), _SECONDS)
        if process.poll() is None and _answers(port):
            return True
        self.kill()  # another program was quicker to take the port
        return False

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        process.wait(_SECONDS)
        (self._folder / NATS_PID_FILE).unlink(missing_ok=True)


@contextmanager
def nats_server(*options: str) -> Iterator[NatsServer]:
    """A server of the test's own; `options` are the program's. Skips the test where the program is absent."""
    if (program := shutil.which(_PROGRAM) or shutil.which(f"/usr/sbin/{_PROGRAM}")) is None:
        pytest.skip(f"needs NATS: no program {_PROGRAM}")
    with tempfile.TemporaryDirectory(prefix="nats-", dir=os.environ[RUN_FOLDER]) as folder:
        server = NatsServer(program, Path(folder), *options)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def nats_url() -> Iterator[str]:
    """Where a NATS is: the one of the environment, which other tests use too, else one of the test's own. Skips the test without either."""
    if url := os.environ.get(URL):
        yield url
        return
    with nats_server() as server:
        yield server.url


@contextmanager
def own_stream(url: str) -> Iterator[str]:
    """A name for NATS_STREAM that no other test has; the stream is removed at the end."""
    name = f"T{uuid.uuid4().hex}"
    yield name
    asyncio.run(_remove(url, name))


async def _remove(url: str, name: str) -> None:
    connection = await nats.connect(url)
    try:
        with suppress(NotFoundError):
            await connection.jetstream().delete_stream(name)
    finally:
        await connection.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert isinstance(port, int)
        return port


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        return connection.recv(4) == b"INFO"
    return False
