"""One store for events of every kind that a test may run on, and as many logs on it as it likes: each is a process of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.pq import ExecStatus

from penstock.database.connect import Database
from penstock.errors import DatabaseUnavailableError, EventLogUnavailableError
from penstock.events.log import EventLog, Handle
from penstock.events.model import SETTLED, Backlog, Entry, Event, Verdict
from penstock.events.nats_log import NatsLog
from penstock.events.postgres_log import PostgresLog
from penstock.lifecycle.gate import Gate
from penstock.settings import load_settings
from tests.support.nats import nats_url, own_stream

KINDS = ("postgres", "nats")
WAIT = 0.05  # seconds that `deliver` waits for a batch to fill
_TEST_SECONDS = 90
_EVENTUAL_SECONDS = 30

T = TypeVar("T")


class EventStore:
    """Where the events lie, by the settings that lead there."""

    def __init__(self, kind: str, conninfo: str, env: dict[str, str]) -> None:
        self.kind = kind
        self.conninfo = conninfo
        self._env = env
        self._logs: list[EventLog] = []
        self._databases: list[Database] = []

    def open(self, *, conninfo: str | None = None, **settings: str) -> EventLog:
        """As one more process has it; closed after the test."""
        database = Database(conninfo or self.conninfo, workers=2, connect_seconds=3)
        self._databases.append(database)
        chosen = load_settings({**self._env, **settings}, Path("/nonexistent"))
        kind = NatsLog if chosen.nats_url is not None else PostgresLog
        log: EventLog = kind(database, chosen, gate=Gate(4))
        self._logs.append(log)
        return log

    def run(self, test: Callable[[], Awaitable[T]]) -> T:
        """On an event loop, bounded; the logs are closed on it."""

        async def whole() -> T:
            try:
                async with asyncio.timeout(_TEST_SECONDS):
                    return await test()
            finally:
                for log in self._logs:
                    await log.close()

        try:
            return asyncio.run(whole())
        finally:
            for database in self._databases:
                database.close()

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            # Not by `description`: it is empty for rows without columns.
            answered = cursor.pgresult is not None and cursor.pgresult.status == ExecStatus.TUPLES_OK
            return cursor.fetchall() if answered else []


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, database: str) -> Iterator[EventStore]:
    """One test, every kind of log."""
    if request.param == "postgres":
        yield EventStore("postgres", database, {})
        return
    with nats_url() as url, own_stream(url) as stream:
        yield EventStore("nats", database, {"NATS_URL": url, "NATS_STREAM": stream})


@pytest.fixture
def tables(database: str) -> EventStore:
    """The events lie in PostgreSQL."""
    return EventStore("postgres", database, {})


def event(stock: int = 1, *, product_id: str = "p", event_id: str | None = None, **more: Any) -> Event:
    now = datetime.now(UTC)
    given = {"price": Decimal("49.99"), "occurred_at": now, "accepted_at": now, **more}
    return Event(product_id=product_id, stock=stock, event_id=event_id, **given)


class Taken:
    """A handle that notes what it is given and answers the same for each."""

    def __init__(self, verdict: Verdict = SETTLED) -> None:
        self.entries: list[Entry] = []
        self._verdict = verdict

    def __call__(self, _connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        self.entries += entries
        return [self._verdict] * len(entries)

    @property
    def events(self) -> list[Event]:
        return [entry.content for entry in self.entries if isinstance(entry.content, Event)]

    @property
    def stocks(self) -> list[int]:
        return [event.stock for event in self.events]


async def delivered(log: EventLog, count: int, handle: Handle, *, limit: int = 1000) -> int:
    """Until so many came, or nothing more for a while; how many did."""
    loop = asyncio.get_running_loop()
    total, deadline = 0, loop.time() + _EVENTUAL_SECONDS
    while total < count and loop.time() < deadline:
        total += await log.deliver(handle, limit=limit, wait_seconds=WAIT)
    return total


async def waiting(log: EventLog, count: int) -> Backlog:
    """The backlog, once the log has heard of everything that was settled and so many are left."""
    async with asyncio.timeout(_EVENTUAL_SECONDS):
        while (left := await log.backlog()).waiting != count:  # noqa: ASYNC110 - it may be another process that settles
            await asyncio.sleep(0.01)
    return left


async def eventually(action: Callable[[], Awaitable[T]]) -> T:
    """What it returns once nothing is away any more."""
    async with asyncio.timeout(_EVENTUAL_SECONDS):
        while True:
            with suppress(EventLogUnavailableError, DatabaseUnavailableError):
                return await action()
            await asyncio.sleep(0.02)


def sums(store: EventStore) -> tuple[int, int]:
    """How many events wait in PostgreSQL, by the counters and by counting."""
    ((counted, there),) = store.execute(
        "SELECT (SELECT sum(waiting)::bigint FROM penstock.event_counters),"
        " (SELECT count(*) FROM penstock.events) + (SELECT count(*) FROM penstock.event_retries)"
    )
    return counted, there
