"""What is special about the event log in PostgreSQL: its groups, its counters, outages, deaths, and snapshots that stay open."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.crashpoints import CrashPoint
from penstock.errors import CircuitOpenError, DatabaseRefusedError, DatabaseUnavailableError, HandedOverError, OverloadedError
from penstock.events.log import Handle
from penstock.events.model import SETTLED, Entry, Event, Outcome, Retry, Verdict
from penstock.events.postgres import places, storing
from penstock.events.postgres.places import Rarely, Start
from penstock.events.postgres_log import PostgresLog
from tests.events.conftest import WAIT, EventStore, Taken, delivered, event, eventually, waiting
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


def sums(store: EventStore) -> tuple[int, int]:
    """By the counters, and by counting."""
    ((counted, there),) = store.execute(
        "SELECT (SELECT sum(waiting)::bigint FROM penstock.event_counters),"
        " (SELECT count(*) FROM penstock.events) + (SELECT count(*) FROM penstock.event_retries)"
    )
    return counted, there


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


# Counters

STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "settle", "retry", "half", "outage", "delete", "rollback"]), st.integers(1, 12)), max_size=12
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_counters_are_what_is_there(tables: EventStore, steps: list[tuple[str, int]]) -> None:
    def half(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        return [SETTLED if n % 2 else Retry(0.001) for n in range(len(entries))]

    def outage(_connection: psycopg.Connection, _entries: Sequence[Entry]) -> list[Verdict]:
        raise DatabaseUnavailableError("away")

    handles: dict[str, Handle] = {"settle": Taken(), "retry": Taken(Retry(0.001)), "half": half, "outage": outage}

    async def step(log: PostgresLog, what: str, count: int) -> None:
        if what == "append":
            assert await log.append([event(n) for n in range(count)]) == [ACCEPTED] * count
        elif what in handles:
            try:
                await log.deliver(handles[what], limit=count, wait_seconds=0.001)
            except DatabaseUnavailableError:
                assert what == "outage"
        else:
            with psycopg.connect(tables.conninfo) as connection:
                connection.execute("DELETE FROM penstock.events WHERE position IN (SELECT position FROM penstock.events LIMIT %s)", [count])
                if what == "rollback":
                    connection.rollback()

    async def test() -> None:
        log = tables.open()
        assert isinstance(log, PostgresLog)
        for what, count in steps:
            await step(log, what, count)
            counted, there = sums(tables)
            assert counted == there
            assert (await log.backlog()).waiting == there
        await log.close()

    tables.run(test)


def test_counting_goes_on_around_those_who_have_a_row(tables: EventStore) -> None:
    """A session whose row somebody holds takes another; what a savepoint takes back is not counted, and the place is found again."""
    count = "SELECT penstock.count_events(applied => 1)"
    applied = "SELECT sum(applied)::integer FROM penstock.event_counters"
    with psycopg.connect(tables.conninfo, autocommit=True) as one, psycopg.connect(tables.conninfo) as other:
        one.execute(count)
        other.execute("SELECT FROM penstock.event_counters WHERE applied > 0 FOR UPDATE")
        one.execute("SET lock_timeout = '10s'")
        one.execute(count)
        other.rollback()
        with one.transaction():
            one.execute(count)
            with one.transaction(force_rollback=True):
                one.execute(count)
            one.execute(count)
        with one.transaction(force_rollback=True):
            one.execute(count)
        one.execute(count)
        assert one.execute(applied).fetchone() == (5,)
        assert one.execute("SELECT count(*) FROM penstock.event_counters").fetchone() == (64,)


# Snapshots that stay open


def buffers(connection: psycopg.Connection, statement: bytes, values: dict[str, object]) -> int:
    """Pages that the statement looked at; what it did is taken back."""
    with connection.transaction(force_rollback=True):
        rows = connection.execute(b"EXPLAIN (ANALYZE, BUFFERS) " + statement, values).fetchall()
    found = re.search(r"Buffers:(?: shared)?(?: hit=(\d+))?(?: read=(\d+))?", "\n".join(row[0] for row in rows))
    assert found is not None
    return sum(int(group) for group in found.groups() if group)


@contextmanager
def old_snapshot(store: EventStore) -> Iterator[None]:
    with psycopg.connect(store.conninfo) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM penstock.event_counters")
        yield


def test_an_old_snapshot_slows_nobody_down(tables: EventStore) -> None:
    """A hundred thousand events came and went, and all of them are still there for somebody: whoever takes does not pass them by."""
    total, piece = 100_000, 5_000

    async def test() -> None:
        log, taken = tables.open(BATCH_SIZE="10000"), Taken()
        assert isinstance(log, PostgresLog)
        for _ in range(total // piece):
            await log.append([event(n) for n in range(piece)])
            assert await delivered(log, piece, taken, limit=10_000) == piece
            taken.entries.clear()
        assert await asyncio.to_thread(until, lambda: _moved_on(log))
        await log.append([event(n) for n in range(10)])
        with psycopg.connect(tables.conninfo, autocommit=True) as connection:
            near = log._places.values(10)
            far = {**near, "position": 0}
            for name in ("look", "take", "backlog"):
                statement = storing._SQL[name]
                from_here, from_the_start = buffers(connection, statement, near), buffers(connection, statement, far)
                assert from_here < 500 < from_the_start, (name, from_here, from_the_start)
        assert await delivered(log, 10, taken) == 10

    def _moved_on(log: PostgresLog) -> bool:
        """Half a second later it knows that nothing is left."""
        log._backlog()
        return log._places.events.begin >= total

    with old_snapshot(tables):
        tables.run(test)


def test_counting_costs_the_same_under_an_old_snapshot(tables: EventStore) -> None:
    """Ten thousand versions of a counter stay, and the next is found by the place of the last."""
    with old_snapshot(tables), psycopg.connect(tables.conninfo, autocommit=True) as connection:
        connection.execute(
            "CREATE PROCEDURE many() LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..10000 LOOP"
            " PERFORM penstock.count_events(applied => 1); COMMIT; END LOOP; END $$"
        )
        connection.execute("CALL many()")
        assert buffers(connection, b"SELECT sum(applied) FROM penstock.event_counters", {}) > 50
        buffers(connection, b"SELECT penstock.count_events(applied => 1)", {})  # what the session reads of the catalogue
        assert buffers(connection, b"SELECT penstock.count_events(applied => 1)", {}) < 30
        assert connection.execute("SELECT sum(applied)::integer FROM penstock.event_counters").fetchone() == (10_000,)


def test_found_though_it_became_visible_late(tables: EventStore) -> None:
    """Another server's transaction began before events that have been taken since, and ends when nobody looks there any more."""

    async def test() -> None:
        log, taken = tables.open(), Taken()
        assert isinstance(log, PostgresLog)
        with psycopg.connect(tables.conninfo) as late:
            late.execute(
                "INSERT INTO penstock.events (product_id, price, stock, occurred_at, accepted_at) VALUES ('p', 1, 77, now(), now())"
            )
            await log.append([event(n) for n in range(5)])
            assert await delivered(log, 5, taken) == 5
            async with asyncio.timeout(SECONDS):
                while log._places.events.begin <= 1:
                    assert await log.deliver(taken, limit=10, wait_seconds=WAIT) == 0
            late.commit()
        assert await delivered(log, 1, taken) == 1
        assert taken.stocks[-1] == 77
        await waiting(log, 0)

    tables.run(test)


def test_what_came_back_is_found_while_every_batch_is_full(tables: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker had it and lost it, long after this one passed by; it need not wait until all others are applied."""
    monkeypatch.setattr(places, "FULL_LOOK_SECONDS", 0)

    async def test() -> None:
        log, taken = tables.open(), Taken()
        await log.append([event(-1)])
        await log.append([event(n) for n in range(500)])
        assert isinstance(log, PostgresLog)
        log._places.events._begin = log._places.events._next = 2
        log._taker._plenty = True
        while -1 not in taken.stocks:
            assert await log.deliver(taken, limit=1, wait_seconds=WAIT) == 1
        assert len(taken.stocks) < 500

    tables.run(test)


def test_oldest_is_told_though_it_became_visible_late(tables: EventStore) -> None:
    async def test() -> None:
        log, other = tables.open(), tables.open()
        await log.append([event(1), event(2)])
        assert isinstance(other, PostgresLog)
        other._places.events._begin = 1000
        assert (await other.backlog()).oldest is not None

    tables.run(test)


def test_where_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step behind what was seen; back at once to what turns up before."""
    monkeypatch.setattr(places, "LAG_SECONDS", 0)
    start = Start(0)
    start.first_is_at(10)
    assert start.begin == 0
    start.first_is_at(20)
    assert start.begin == 10
    start.first_is_at(15)
    assert start.begin == 10
    start.first_is_at(30)
    assert start.begin == 15
    start.first_is_at(3)
    assert start.begin == 3
    monkeypatch.setattr(places, "LAG_SECONDS", 3600)
    start.first_is_at(50)
    start.first_is_at(60)
    assert start.begin == 3


def test_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FULL_LOOK_SECONDS", 3600)
    rarely = Rarely()
    assert rarely.begin()
    assert not rarely.begin()
    rarely.end()
    assert not rarely.begin()
