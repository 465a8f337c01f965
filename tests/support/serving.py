"""`penstock serve` as a process of its own, reached over HTTP as any client reaches it."""

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from tests.support.commands import Penstock
from tests.support.waiting import until

_END_SECONDS = 30


@dataclass
class Served:
    """A server that answers. `http` asks it; `lines` is its log, one object per line."""

    url: str
    process: subprocess.Popen[str]
    http: httpx.Client
    _lines: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in list(self._lines):
            with suppress(msgspec.DecodeError):
                found.append(msgspec.json.decode(line))
        return found

    def logged(self, event: str, **facts: object) -> bool:
        """Whether a line says so, by now or in a moment."""
        return until(lambda: any(line["event"] == event and facts.items() <= line.items() for line in self.lines), 10)

    def stop(self, seconds: float = _END_SECONDS) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(penstock: Penstock, *options: str, env: Mapping[str, str]) -> Iterator[Served]:
    """Start it, wait until it answers, and stop it at the end if the test did not."""
    port = free_port()
    process = penstock.start("serve", "--port", str(port), *options, env={"LOG_FORMAT": "json", "SHUTDOWN_GRACE_SECONDS": "10", **env})
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
        served = Served(url, process, http)
        draining = threading.Thread(target=_drain, args=(process, served._lines), daemon=True)
        draining.start()
        try:
            answered = until(lambda: process.poll() is not None or _answers(http))
            assert answered, "no answer"
            assert process.poll() is None, "".join(served._lines)
            yield served
        finally:
            if process.poll() is None:
                served.stop()
            draining.join(5)


def _drain(process: subprocess.Popen[str], lines: list[str]) -> None:
    """A pipe that nobody reads would stop the server."""
    assert process.stderr is not None
    with suppress(ValueError):  # closed at the end
        for line in process.stderr:
            lines.append(line)  # noqa: PERF402 - one by one: the test looks at them meanwhile


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/live").is_success
    except httpx.TransportError:
        return False
