"""Counters and places of the event log in PostgreSQL: right after anything, and as cheap under a snapshot that stays open."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import DatabaseUnavailableError
from penstock.events.log import Handle
from penstock.events.model import SETTLED, Entry, Outcome, Retry, Verdict
from penstock.events.postgres import places, storing
from penstock.events.postgres.places import Rarely, Start
from penstock.events.postgres_log import PostgresLog
from tests.events.conftest import WAIT, EventStore, Taken, delivered, event, sums, waiting
from tests.support.waiting import until

SECONDS = 30
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
            assert await log.append([event(n) for n in range(count)]) == [Outcome.ACCEPTED] * count
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
