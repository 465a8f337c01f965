"""What is special about the event log in PostgreSQL: its groups, outages and deaths."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from penstock.crashpoints import CrashPoint
from penstock.errors import CircuitOpenError, DatabaseRefusedError, DatabaseUnavailableError, HandedOverError, OverloadedError
from penstock.events.model import SETTLED, Entry, Event, Outcome, Verdict
from penstock.events.postgres import storing
from penstock.events.postgres_log import PostgresLog
from tests.events.conftest import WAIT, EventStore, Taken, delivered, event, eventually, sums
from tests.support.proxy import Proxy
from tests.support.waiting import until

ACCEPTED, DUPLICATE, FULL = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FULL
ROOT = Path(__file__).parents[2]
SECONDS = 30
SECRET = "nobody's business"  # what no message may show


@contextmanager
def locked(store: EventStore, table: str = "events") -> Iterator[psycopg.Connection]:
    """While somebody has the whole table, a group hangs and others gather behind it."""
    with psycopg.connect(store.conninfo) as connection:
        connection.execute(f"LOCK TABLE penstock.{table}".encode())
        yield connection


def hanging(store: EventStore) -> bool:
    """Whether a group waits for the lock."""
    found = store.execute(
        "SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE datname = current_database() AND NOT granted"
    )
    return bool(found)


async def hangs(store: EventStore) -> None:
    assert await asyncio.to_thread(until, lambda: hanging(store))


# Groups


def test_what_waits_is_one_group(tables: EventStore) -> None:
    """One transaction for all that came while the last one was written."""

    async def test() -> None:
        log = tables.open()
        with locked(tables):
            first = asyncio.ensure_future(log.append([event(0)]))
            await hangs(tables)
            others = [asyncio.ensure_future(log.append([event(n)])) for n in range(1, 50)]
            await asyncio.sleep(0)
        assert await asyncio.gather(first, *others) == [[ACCEPTED]] * 50
        assert [n for (n,) in tables.execute("SELECT count(*) FROM penstock.events GROUP BY xmin::text ORDER BY 1")] == [1, 49]
        assert [stock for (stock,) in tables.execute("SELECT stock FROM penstock.events ORDER BY position")] == list(range(50))

    tables.run(test)


@pytest.mark.parametrize(
    "poison",
    [
        event(2**31),
        event(-(2**31) - 1),
        event(price=Decimal("1e10")),
        event(price=Decimal("NaN")),
        event(product_id=f"{SECRET}\0"),
        event(product_id=f"{SECRET}\ud800"),
        event(event_id=f"{SECRET}\0"),
        event(price=SECRET),
    ],
    ids=["large", "small", "expensive", "no-number", "nul", "surrogate", "nul-in-id", "no-price"],
)
def test_poison_is_refused_to_its_sender_only(tables: EventStore, poison: Event, capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        log = tables.open()
        with locked(tables):
            first = asyncio.ensure_future(log.append([event(0)]))
            await hangs(tables)
            good = [asyncio.ensure_future(log.append([event(n)])) for n in range(1, 20)]
            bad = asyncio.ensure_future(log.append([event(100), poison, event(101)]))
            more = [asyncio.ensure_future(log.append([event(n)])) for n in range(20, 40)]
            await asyncio.sleep(0)
        assert await asyncio.gather(first, *good, *more) == [[ACCEPTED]] * 40
        with pytest.raises(DatabaseRefusedError) as refused:
            await bad
        assert SECRET not in refused.value.message
        stored = sorted(stock for (stock,) in tables.execute("SELECT stock FROM penstock.events"))
        assert stored == list(range(40))
        assert await log.append([event(1)]) == [ACCEPTED]

    tables.run(test)
    assert SECRET not in "".join(capfd.readouterr())
    counted, there = sums(tables)
    assert counted == there


def test_refused_for_no_value(tables: EventStore) -> None:
    """Where the table cannot be written to nobody's events are looked for; it goes on as soon as it can."""
    tables.execute("ALTER TABLE penstock.events RENAME TO gone")

    async def test() -> None:
        log = tables.open(CIRCUIT_BREAKER_THRESHOLD="1")
        answers = await asyncio.gather(*(log.append([event(n)]) for n in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [DatabaseRefusedError] * 5
        assert len({id(answer) for answer in answers}) == 5
        tables.execute("ALTER TABLE penstock.gone RENAME TO events")
        assert await log.append([event(1)]) == [ACCEPTED]

    tables.run(test)


def test_too_many_wait(tables: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "MOST_REQUESTS", 3)

    async def test() -> None:
        log = tables.open()
        with locked(tables):
            first = asyncio.ensure_future(log.append([event(0)]))
            await hangs(tables)
            others = [asyncio.ensure_future(log.append([event(n)])) for n in range(1, 4)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError):
                await log.append([event(4)])
            monkeypatch.setattr(storing, "MOST_REQUESTS", 10)
            monkeypatch.setattr(storing, "MOST_EVENTS", 4)
            with pytest.raises(OverloadedError):
                await log.append([event(4)])
        assert await asyncio.gather(first, *others) == [[ACCEPTED]] * 4
        assert await log.append([event(4)]) == [ACCEPTED]

    tables.run(test)


def test_closed_while_the_database_hangs(tables: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever still waits is told to send again, those in the group under way and those behind it."""
    monkeypatch.setattr(storing, "_CLOSE_SECONDS", 0.2)

    async def test() -> None:
        log = tables.open()
        with locked(tables):
            first = asyncio.ensure_future(log.append([event(0)]))
            await hangs(tables)
            second = asyncio.ensure_future(log.append([event(1)]))
            await asyncio.sleep(0)
            await log.close()
            for told in (first, second):
                with pytest.raises(HandedOverError):
                    await told
        assert isinstance(log, PostgresLog)
        thread = log._writer._thread
        assert thread is not None
        await asyncio.to_thread(thread.join, SECONDS)
        assert not thread.is_alive()

    tables.run(test)


def test_durable_whatever_the_default_is(tables: EventStore) -> None:
    name = tables.execute("SELECT current_database()")[0][0]
    tables.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')

    async def test() -> None:
        log = tables.open()
        await log.append([event(1)])
        assert isinstance(log, PostgresLog)
        connection = log._writer._connection
        assert connection is not None
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)

    tables.run(test)


def test_bound_over_several_servers(tables: EventStore) -> None:
    """With room for all they do not ask before each group; close to the bound they do."""

    async def test() -> None:
        logs = [tables.open(QUEUE_SIZE="3000") for _ in range(3)]
        outcomes: list[Outcome] = []
        for n in range(400):
            outcomes += await logs[n % 3].append([event(n)] * 10)
        assert outcomes.count(ACCEPTED) == 3000
        assert sums(tables) == (3000, 3000)

    tables.run(test)


# Outages


def test_outage_in_the_middle_of_a_group(tables: EventStore, proxied: Callable[[str], Proxy]) -> None:
    """All who wait for it are told; the next group finds a new connection. What was accepted is there, and nothing is there twice."""
    proxy = proxied(tables.conninfo)

    async def test() -> None:
        log = tables.open(conninfo=proxy.conninfo, CIRCUIT_BREAKER_THRESHOLD="100")
        assert await log.append([event(0)]) == [ACCEPTED]
        with locked(tables):
            first = asyncio.ensure_future(log.append([event(1)]))
            await hangs(tables)
            behind = [asyncio.ensure_future(log.append([event(n)])) for n in range(2, 12)]
            await asyncio.sleep(0)
            assert proxy.cut() >= 1
            with pytest.raises(DatabaseUnavailableError):
                await first
        assert await asyncio.gather(*behind) == [[ACCEPTED]] * 10
        stored = [stock for (stock,) in tables.execute("SELECT stock FROM penstock.events")]
        assert {0, *range(2, 12)} <= set(stored) <= set(range(12))
        assert len(set(stored)) == len(stored)

    tables.run(test)
    counted, there = sums(tables)
    assert counted == there


def test_circuit_opens_and_closes_by_itself(tables: EventStore, proxied: Callable[[str], Proxy]) -> None:
    proxy = proxied(tables.conninfo)

    async def test() -> None:
        log = tables.open(conninfo=proxy.conninfo, CIRCUIT_BREAKER_THRESHOLD="2", CIRCUIT_BREAKER_TIMEOUT="60s")
        soon = tables.open(conninfo=proxy.conninfo, CIRCUIT_BREAKER_THRESHOLD="2", CIRCUIT_BREAKER_TIMEOUT="50ms")
        proxy.refuse()
        proxy.cut()
        for one in (log, soon):
            for _ in range(2):
                with pytest.raises(DatabaseUnavailableError) as away:
                    await one.append([event(1)])
                assert not isinstance(away.value, CircuitOpenError)
        with pytest.raises(CircuitOpenError) as refused:
            await log.append([event(1)])
        assert 1 <= refused.value.details["retry_after_seconds"] <= 60
        proxy.accept()
        with pytest.raises(CircuitOpenError):
            await log.append([event(1)])
        assert await eventually(lambda: soon.append([event(2)])) == [ACCEPTED]
        assert sums(tables) == (1, 1)

    tables.run(test)


def test_outage_while_taking(tables: EventStore, proxied: Callable[[str], Proxy]) -> None:
    """Connections that broke while they were idle, or in the middle of a batch: nothing is settled, nothing is lost."""
    proxy = proxied(tables.conninfo)

    def cutting(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        assert proxy.cut() >= 1
        return [SETTLED] * len(entries)

    async def test() -> None:
        log, taken = tables.open(conninfo=proxy.conninfo), Taken()
        await log.append([event(n) for n in range(3)])
        with pytest.raises(DatabaseUnavailableError):
            await log.deliver(cutting, limit=10, wait_seconds=WAIT)
        assert await log.deliver(taken, limit=2, wait_seconds=WAIT) == 2
        proxy.cut()
        with pytest.raises(DatabaseUnavailableError):
            await log.deliver(taken, limit=10, wait_seconds=WAIT)
        assert await delivered(log, 1, taken) == 1
        assert sorted(taken.stocks) == [0, 1, 2]
        assert [entry.attempts for entry in taken.entries] == [0, 0, 0]

    tables.run(test)
    assert sums(tables) == (0, 0)


def test_failed_transaction_is_not_taken_for_settled(tables: EventStore) -> None:
    def failing(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        return [SETTLED] * len(entries)

    async def test() -> None:
        log, taken = tables.open(), Taken()
        await log.append([event(1)])
        with pytest.raises(DatabaseRefusedError):
            await log.deliver(failing, limit=10, wait_seconds=WAIT)
        assert await delivered(log, 1, taken) == 1

    tables.run(test)


# Deaths


def process(store: EventStore, what: str, **env: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DATABASE_URL": store.conninfo, "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-m", "tests.events.dying", what]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_killed_before_a_sender_hears(durable_database: str) -> None:
    """What is stored stays stored; the sender, who cannot know, sends it again."""
    store = EventStore("postgres", durable_database, {})
    with process(store, "append", CRASH_AT=CrashPoint.EVENTS_STORED) as dying:
        assert dying.wait(SECONDS) == -signal.SIGKILL
    assert [stock for (stock,) in store.execute("SELECT stock FROM penstock.events ORDER BY position")] == [0, 1, 2]
    assert sums(store) == (3, 3)


def test_killed_after_the_commit(durable_database: str) -> None:
    """The effect and the end of the events are one commit."""
    store = EventStore("postgres", durable_database, {})
    store.execute("CREATE TABLE seen (stock integer)")

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(n) for n in range(3)])
        with process(store, "deliver", CRASH_AT=CrashPoint.EVENTS_COMMITTED) as dying:
            assert await asyncio.to_thread(dying.wait, SECONDS) == -signal.SIGKILL
        assert await log.deliver(taken, limit=10, wait_seconds=WAIT) == 0
        assert sorted(store.execute("SELECT stock FROM seen")) == [(0,), (1,), (2,)]

    store.run(test)


def test_killed_while_applying(durable_database: str) -> None:
    """Another gets them when the server has noticed, with no attempt counted; the effect is taken back."""
    store = EventStore("postgres", durable_database, {})
    store.execute("CREATE TABLE seen (stock integer)")

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(n) for n in range(3)])
        with process(store, "stall") as dying:
            assert dying.stdout is not None
            assert await asyncio.to_thread(dying.stdout.readline) == "taken\n"
            assert await log.deliver(taken, limit=10, wait_seconds=WAIT) == 0
            dying.kill()
        assert await delivered(log, 3, taken) == 3
        assert [(entry.attempts, stock) for entry, stock in zip(taken.entries, taken.stocks, strict=True)] == [(0, 0), (0, 1), (0, 2)]
        assert store.execute("SELECT FROM seen") == []

    store.run(test)
