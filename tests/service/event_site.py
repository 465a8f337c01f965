"""Servers and workers on one event log, which a test kills, ends and starts again."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.service.event_checker import Checker
from tests.service.test_fleet import Log
from tests.support.commands import Penstock
from tests.support.nats import nats_url, own_stream
from tests.support.serving import Served, serving

LOGS = ("postgresql", "nats")


@dataclass(frozen=True)
class Working:
    process: subprocess.Popen[str]
    log: Log


@dataclass(frozen=True)
class EventSite:
    env: dict[str, str]
    check: Checker
    _run: Penstock

    @contextmanager
    def server(self, *options: str, **more: str) -> Iterator[Served]:
        with serving(self._run, *options, env={**self.env, **more}) as served:
            yield served

    @contextmanager
    def worker(self, **more: str) -> Iterator[Working]:
        """Ended in the end, if the test has not done so."""
        process = self._run.start("worker", env={**self.env, **more})
        log = Log(process)
        try:
            yield Working(process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
            log.close()


@contextmanager
def event_site(kind: str, conninfo: str, folder: Path, run_penstock: Penstock) -> Iterator[EventSite]:
    """`kind` is one of LOGS. Skips the test where there is no NATS."""
    env = {
        "DATABASE_URL": conninfo,
        "PENSTOCK_DATA_DIR": str(folder / "data"),
        "LOG_FORMAT": "json",
        "INITIAL_RETRY_DELAY": "10ms",
        "CIRCUIT_BREAKER_TIMEOUT": "300ms",
        "BATCH_FLUSH_INTERVAL": "20ms",
    }
    checker = Checker(conninfo, exact=kind == "postgresql")
    if kind == "postgresql":
        yield EventSite(env, checker, run_penstock)
        return
    with nats_url() as url, own_stream(url) as stream:
        yield EventSite({**env, "NATS_URL": url, "NATS_STREAM": stream}, checker, run_penstock)
