"""Servers and workers on one event log, which a test kills, ends and starts again."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import nats

from penstock.database.connect import Database
from penstock.events.nats.stream import CONSUMER
from penstock.events.nats_log import NatsLog
from penstock.lifecycle.gate import Gate
from penstock.settings import load_settings
from tests.service.event_checker import Checker
from tests.service.test_fleet import Log
from tests.support.commands import Penstock
from tests.support.nats import nats_url, own_stream
from tests.support.serving import Served, serving

LOGS = ("postgresql", "nats")
ACK_WAIT_SECONDS = 3


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
def event_site(kind: str, conninfo: str, folder: Path, run_penstock: Penstock, *, nats_at: str | None = None) -> Iterator[EventSite]:
    """`kind` is one of LOGS. Skips the test where there is no NATS, unless it has its own `nats_at` a URL."""
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
    with nullcontext(nats_at) if nats_at else nats_url() as url, own_stream(url) as stream:
        env |= {"NATS_URL": url, "NATS_STREAM": stream}
        asyncio.run(_come_back_soon(env))
        yield EventSite(env, checker, run_penstock)


async def _come_back_soon(env: dict[str, str]) -> None:
    """What a killed process had under way; by default that takes half a minute."""
    settings = load_settings(env, Path("/nonexistent"))
    log = NatsLog(Database(env["DATABASE_URL"]), settings, gate=Gate(1))
    client = await nats.connect(env["NATS_URL"])
    try:
        await log.check()  # makes stream and consumer
        stream = client.jetstream()
        config = (await stream.consumer_info(settings.nats_stream, CONSUMER)).config
        await stream.add_consumer(settings.nats_stream, config.evolve(ack_wait=ACK_WAIT_SECONDS))
    finally:
        await client.close()
        await log.close()
