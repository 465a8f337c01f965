"""Logs on NATS, JetStream as an operator uses it, and what waits for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import nats
import psycopg

from penstock.database.connect import Database
from penstock.errors import DatabaseUnavailableError, EventLogUnavailableError
from penstock.events.model import SETTLED, Entry, Event, Outcome, Verdict
from penstock.events.nats_log import NatsLog
from penstock.lifecycle.gate import Gate
from penstock.settings import load_settings

ACCEPTED, DUPLICATE, FULL = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FULL
NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
NOWHERE = "host=/nonexistent dbname=none"
SECOND = 1_000_000_000
SECONDS = 30
_T = TypeVar("_T")


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test

    asyncio.run(bounded())


def event(stock: int = 1, *, product_id: str = "p", event_id: str | None = None) -> Event:
    return Event(product_id=product_id, price=Decimal("49.99"), stock=stock, occurred_at=NOW, accepted_at=NOW, event_id=event_id)


def made(url: str, stream: str, conninfo: str = NOWHERE, **settings: str) -> NatsLog:
    env = {"NATS_URL": url, "NATS_STREAM": stream, **settings}
    return NatsLog(Database(conninfo), load_settings(env, Path("/nonexistent")), gate=Gate(4))


@asynccontextmanager
async def opened(url: str, stream: str, conninfo: str = NOWHERE, **settings: str) -> AsyncIterator[NatsLog]:
    log = made(url, stream, conninfo, **settings)
    try:
        yield log
    finally:
        await log.close()


async def ask(url: str, subject: str, body: Any = None) -> dict[str, Any]:
    """JetStream's API, as an operator uses it."""
    client = await nats.connect(url)
    try:
        answer = await client.request(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode(), timeout=5)
    finally:
        await client.close()
    decoded: dict[str, Any] = json.loads(answer.data)
    assert "error" not in decoded, decoded
    return decoded


async def make_consumer(url: str, stream: str, **config: Any) -> None:
    """With `ack_wait` of a second, so that what nobody settles comes again soon."""
    wanted = {"durable_name": "penstock", "ack_policy": "explicit", "max_deliver": -1, "ack_wait": SECOND, **config}
    await ask(url, f"CONSUMER.DURABLE.CREATE.{stream}.penstock", {"stream_name": stream, "config": wanted})


async def eventually(action: Callable[[], Awaitable[_T]]) -> _T:
    """What it returns once it no longer finds its server away."""
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(EventLogUnavailableError, DatabaseUnavailableError):
                return await action()
            await asyncio.sleep(0.02)


class Taken:
    """A handle that notes what it was given and answers the same for each."""

    def __init__(self, verdict: Verdict = SETTLED) -> None:
        self.entries: list[Entry] = []
        self._verdict = verdict

    def __call__(self, _connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        self.entries += entries
        return [self._verdict] * len(entries)

    @property
    def stocks(self) -> list[int]:
        return [entry.content.stock for entry in self.entries if isinstance(entry.content, Event)]


async def take(log: NatsLog, taken: Taken, count: int) -> None:
    """Until it has been given so many."""
    async with asyncio.timeout(SECONDS):
        while len(taken.entries) < count:
            await log.deliver(taken, limit=100, wait_seconds=0.1)
