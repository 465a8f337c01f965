"""Whoever applies events: through outages and defects, to the end of what waits, and not beyond its time."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from penstock.database.connect import Database
from penstock.errors import DatabaseUnavailableError
from penstock.events.log import Handle
from penstock.events.model import SETTLED, Entry, Retry, Verdict
from penstock.events.service import Events
from penstock.events.working import EventWorker
from penstock.lifecycle.gate import Gate
from penstock.resources.registry import Registry
from penstock.settings import load_settings
from tests.events.conftest import EventStore, Taken, delivered, event, eventually, waiting

LONG = 60.0  # seconds to drain: more than any of these tests needs
_SETTINGS = {"BATCH_SIZE": "10", "BATCH_FLUSH_INTERVAL": "10ms", "CIRCUIT_BREAKER_TIMEOUT": "100ms"}


class Failing:
    """Raises what is in `faults`, one after the other, and then does as Taken does."""

    def __init__(self, *faults: Exception) -> None:
        self.taken = Taken()
        self.tries = 0
        self._faults = list(faults)

    def __call__(self, connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        self.tries += 1
        if self._faults:
            raise self._faults.pop(0)
        return self.taken(connection, entries)


def away(_connection: psycopg.Connection, _entries: Sequence[Entry]) -> list[Verdict]:
    raise DatabaseUnavailableError("away")


class Desk:
    """A worker, and what it is told."""

    def __init__(self, store: EventStore, handle: Handle, **settings: str) -> None:
        chosen = {**_SETTINGS, **settings}
        known = load_settings(chosen, Path("/nonexistent"))
        self.events = Events(Database(store.conninfo), Registry.load(), known, gate=Gate(4))
        self.events.log = store.open(**chosen)
        setattr(self.events.applier, "apply", handle)  # noqa: B010 - it is no handle of its own
        self.worker = EventWorker(self.events, known)
        self.stop = asyncio.Event()
        self.silent = asyncio.Event()

    async def accept(self, count: int, *, first: int = 0) -> None:
        await eventually(lambda: self.events.accept([event(first + n) for n in range(count)]))

    def start(self, drain_seconds: float = LONG) -> asyncio.Task[None]:
        return asyncio.create_task(self.worker.run(self.stop, silent=self.silent, drain_seconds=drain_seconds))

    async def end(self, running: asyncio.Task[None]) -> None:
        self.stop.set()
        self.silent.set()
        await running


async def true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - threads make it true
            await asyncio.sleep(0.01)


def test_what_waits_at_the_end_is_applied(store: EventStore) -> None:
    """All of it, though the last of it came when the worker was told to stop, and it was in other hands by then."""
    taken = Taken()

    async def test() -> None:
        desk = Desk(store, taken)
        await desk.accept(25)
        running = desk.start()
        await true(lambda: len(taken.stocks) == 25)
        desk.stop.set()
        await asyncio.sleep(0.2)
        assert not running.done()
        await desk.accept(25)
        await desk.end(running)
        assert sorted(taken.stocks) == sorted([*range(25)] * 2)

    store.run(test)


def test_it_ends_though_more_comes(store: EventStore) -> None:
    """What others accept meanwhile is for others."""
    taken = Taken()

    async def test() -> None:
        desk = Desk(store, taken)
        await desk.accept(40)

        async def more() -> None:
            while True:
                await desk.accept(30)

        flood = asyncio.create_task(more())
        running = desk.start()
        await desk.end(running)
        flood.cancel()
        with suppress(asyncio.CancelledError):
            await flood
        assert len(taken.stocks) >= 40

    store.run(test)


def test_retries_that_are_not_due_stay(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """And nobody says that there is nothing left."""

    async def test() -> None:
        desk = Desk(store, Taken(Retry(3600)))
        await desk.accept(5)
        await desk.end(desk.start())
        await waiting(desk.events.log, 5)

    store.run(test)
    assert "events drained" not in caplog.text
    assert "could not be drained" in caplog.text


def test_a_log_that_was_closed_is_no_defect(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever closes it in a hurry may come before the last look."""

    async def test() -> None:
        desk = Desk(store, Taken())
        await desk.accept(1)
        await desk.events.close()
        await desk.end(desk.start(drain_seconds=1))

    store.run(test)
    assert "applying events broke" not in caplog.text


def test_closing_ends_in_its_time(tables: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """Though a batch hangs."""
    held, release = threading.Event(), threading.Event()

    def hangs(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        held.set()
        release.wait(30)
        return [SETTLED] * len(entries)

    async def test() -> None:
        desk = Desk(tables, hangs)
        await desk.accept(1)
        running = desk.start()
        await true(held.is_set)
        await desk.events.close(0.1)
        release.set()
        await desk.end(running)

    tables.run(test)
    assert "did not end in time and is cut off" in caplog.text


def test_an_outage_lasts_beyond_the_time(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """It says so, and everything waits for another."""
    taken = Taken()

    async def test() -> None:
        desk = Desk(store, away)
        await desk.accept(5)
        await desk.end(desk.start(drain_seconds=0.5))
        await desk.events.log.close()
        assert await delivered(store.open(), 5, taken) == 5

    store.run(test)
    assert "could not be drained" in caplog.text


def test_outages_are_waited_out(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """The circuit opens, and closes by itself."""
    handle = Failing(*[DatabaseUnavailableError("away") for _ in range(7)])

    async def test() -> None:
        desk = Desk(store, handle, CIRCUIT_BREAKER_THRESHOLD="3")
        await desk.accept(5)
        running = desk.start()
        await true(lambda: len(handle.taken.stocks) == 5)
        await desk.end(running)

    store.run(test)
    assert 8 <= handle.tries <= 8 + 5  # a log may deliver each by itself
    assert "circuit opened" in caplog.text
    assert "circuit closed" in caplog.text


def test_a_defect_is_told_and_tried_again(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    handle = Failing(ValueError("a defect"))

    async def test() -> None:
        desk = Desk(store, handle)
        await desk.accept(5)
        running = desk.start()
        await true(lambda: len(handle.taken.stocks) == 5)
        await desk.end(running)

    store.run(test)
    assert 2 <= handle.tries <= 2 + 5
    assert "applying events broke" in caplog.text


def test_one_batch_that_is_held_up_holds_up_no_other(store: EventStore) -> None:
    """Whoever looks for all may be the one that waits."""
    held, release = asyncio.Event(), asyncio.Event()
    taken = Taken()

    async def test() -> None:
        loop = asyncio.get_running_loop()

        def handle(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
            if not held.is_set():
                loop.call_soon_threadsafe(held.set)
                asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
            return taken(connection, entries)

        desk = Desk(store, handle)
        running = desk.start()
        await desk.accept(3)
        await held.wait()
        await desk.accept(4, first=100)
        await true(lambda: {100, 101, 102, 103} <= {*taken.stocks})
        release.set()
        await true(lambda: len(taken.stocks) == 7)
        await desk.end(running)

    store.run(test)
