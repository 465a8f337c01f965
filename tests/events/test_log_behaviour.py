"""What every event log does, whatever it keeps events in: one suite for all."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import psycopg
import pytest

from penstock.errors import DatabaseUnavailableError, HandedOverError
from penstock.events.model import SETTLED, Backlog, Entry, Event, Outcome, Retry, Verdict
from tests.events.conftest import WAIT, EventStore, Taken, delivered, event, waiting

ACCEPTED, DUPLICATE, FULL = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FULL
HOSTILE = ["tab\there", "line\nbreak\r\n", "back\\slash", "\\N", "\\.", "'quote\"s'", "émoji 🦊", "{brace,}", " ", "%s", "a" * 600, "NULL"]


def test_accepted_is_durable(store: EventStore) -> None:
    """Another process finds it, all of it, when the call has returned."""
    sent = event(7, event_id="mine", occurred_at=datetime(2020, 2, 29, 23, 59, 59, 1, UTC))

    async def test() -> None:
        assert await store.open().append([sent]) == [ACCEPTED]
        taken = Taken()
        assert await delivered(store.open(), 1, taken) == 1
        assert taken.entries == [Entry(sent, 0)]

    store.run(test)


def test_nothing_to_store_and_nothing_to_take(store: EventStore) -> None:
    async def test() -> None:
        log, taken = store.open(), Taken()
        assert await log.append([]) == []
        assert await log.deliver(taken, limit=10, wait_seconds=WAIT) == 0
        assert await log.backlog() == Backlog(0, None)
        await log.check()
        assert taken.entries == []

    store.run(test)


def test_values_come_back_as_they_went(store: EventStore) -> None:
    """Every character, the ends of what numbers and moments may be, other time zones."""
    edges = [
        event(0, price=Decimal("0.00"), occurred_at=datetime(1, 1, 1, tzinfo=UTC)),
        event(2**31 - 1, price=Decimal("9999999999.99"), occurred_at=datetime.max.replace(tzinfo=UTC)),
        event(5, occurred_at=datetime(2026, 1, 1, tzinfo=UTC).astimezone()),
        event(6, occurred_at=datetime.fromisoformat("2026-01-01T00:00:00.123456+14:00")),
    ]
    sent = [event(100 + n, product_id=text, event_id=f"{text} {n}") for n, text in enumerate(HOSTILE)] + edges

    async def test() -> None:
        log, taken = store.open(), Taken()
        assert await log.append(sent) == [ACCEPTED] * len(sent)
        await delivered(log, len(sent), taken)
        assert sorted(taken.events, key=lambda e: e.stock) == sorted(sent, key=lambda e: e.stock)

    store.run(test)


def test_bound_refuses_and_admits_again(store: EventStore) -> None:
    """In order as far as there is room; room comes back with what is settled, and not before."""

    async def test() -> None:
        log, other = store.open(QUEUE_SIZE="5"), store.open(QUEUE_SIZE="5")
        assert await log.append([event(n) for n in range(3)]) == [ACCEPTED] * 3
        assert await other.append([event(n) for n in range(3, 7)]) == [ACCEPTED, ACCEPTED, FULL, FULL]
        assert await log.append([event(9)]) == [FULL]
        assert (await log.backlog()).waiting == 5
        taken = Taken()
        assert await delivered(other, 2, taken, limit=2) == 2
        await waiting(log, 3)
        assert await log.append([event(n) for n in range(10, 13)]) == [ACCEPTED, ACCEPTED, FULL]
        await delivered(log, 5, taken)
        assert Counter(taken.stocks) == Counter([0, 1, 2, 3, 4, 10, 11])

    store.run(test)


def test_what_is_put_off(store: EventStore) -> None:
    """It takes up room, and holds up nobody."""

    async def test() -> None:
        log, taken = store.open(QUEUE_SIZE="3"), Taken()
        await log.append([event(1), event(2)])
        assert await delivered(log, 2, Taken(Retry(3600))) == 2
        assert await log.append([event(3), event(4)]) == [ACCEPTED, FULL]
        assert await delivered(log, 1, taken) == 1
        assert taken.stocks == [3]
        assert await log.deliver(taken, limit=10, wait_seconds=WAIT) == 0
        await waiting(log, 2)

    store.run(test)


def test_ids_that_are_known(store: EventStore) -> None:
    """One that comes again is refused or stored twice while it waits, but never once it is applied; dead letters come back as they are."""

    def applying(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        ids = [entry.content.event_id for entry in entries if isinstance(entry.content, Event)]
        connection.execute("INSERT INTO penstock.event_ids (event_id) SELECT unnest(%s::text[])", [ids])
        return [SETTLED] * len(entries)

    async def test() -> None:
        log, other = store.open(), store.open()
        assert await log.append([event(1, event_id=name) for name in HOSTILE]) == [ACCEPTED] * len(HOSTILE)
        await delivered(log, len(HOSTILE), applying)
        again = [event(2, event_id=HOSTILE[0]), event(3), event(4, event_id="new"), event(5, event_id="new"), event(6, event_id=HOSTILE[3])]
        assert await other.append(again) == [DUPLICATE, ACCEPTED, ACCEPTED, DUPLICATE, DUPLICATE]
        assert await other.append([again[0], again[0]], again=True) == [ACCEPTED, ACCEPTED]
        taken = Taken()
        await delivered(log, 4, taken)
        assert Counter(taken.stocks) == Counter([3, 4, 2, 2])

    store.run(test)


def test_no_entry_to_two_at_once(store: EventStore) -> None:
    async def test() -> None:
        log, other = store.open(), store.open()
        await log.append([event(n) for n in range(500)])
        taken = Taken()
        await asyncio.gather(*(delivered(one, 1, taken, limit=60) for one in (log, other) for _ in range(2)))
        await delivered(log, 500 - len(taken.entries), taken, limit=60)
        await waiting(log, 0)
        assert sorted(taken.stocks) == list(range(500))

    store.run(test)


@pytest.mark.parametrize("limit", [1, 7])
def test_never_more_than_the_limit(store: EventStore, limit: int) -> None:
    sizes = []

    def noting(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        sizes.append(len(entries))
        return [SETTLED] * len(entries)

    async def test() -> None:
        log = store.open()
        await log.append([event(n) for n in range(20)])
        assert await delivered(log, 20, noting, limit=limit) == 20
        assert sum(sizes) == 20
        assert max(sizes) <= limit

    store.run(test)


def test_retry_comes_after_its_delay(store: EventStore) -> None:
    """With one attempt more each time; meanwhile it is one of those that wait."""
    moments: list[float] = []
    attempts: list[int] = []

    def later(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        moments.append(time.monotonic())
        attempts.extend(entry.attempts for entry in entries)
        return [Retry(0.3)] * len(entries)

    async def test() -> None:
        log, other, taken = store.open(), store.open(), Taken()
        await log.append([event(1, event_id="slow")])
        for _ in range(3):
            await delivered(other, 1, later)
            assert (await log.backlog()).waiting == 1
        assert attempts == [0, 1, 2]
        assert all(second - first > 0.29 for first, second in pairwise(moments))  # two clocks
        await log.append([event(2)])
        await delivered(log, 2, taken)
        assert sorted((e.stock, e.event_id, entry.attempts) for entry, e in zip(taken.entries, taken.events, strict=True)) == [
            (1, "slow", 3),
            (2, None, 0),
        ]
        await waiting(log, 0)

    store.run(test)


def test_each_has_its_own_verdict(store: EventStore) -> None:
    def odd_ones_later(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        stocks = [entry.content.stock for entry in entries if isinstance(entry.content, Event)]
        return [Retry(0.01) if stock % 2 and not entry.attempts else SETTLED for stock, entry in zip(stocks, entries, strict=True)]

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(n) for n in range(10)])

        def noting(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
            taken(connection, entries)
            return odd_ones_later(connection, entries)

        assert await delivered(log, 15, noting) == 15
        await waiting(log, 0)
        assert Counter(taken.stocks) == Counter([*range(10), *range(1, 10, 2)])

    store.run(test)


def test_outage_while_applying_counts_no_attempt(store: EventStore) -> None:
    """Everything comes again, as often as it takes, and what was written is taken back."""
    store.execute("CREATE TABLE seen (stock integer)")

    def writing(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        stocks = [entry.content.stock for entry in entries if isinstance(entry.content, Event)]
        connection.execute("INSERT INTO seen SELECT unnest(%s::integer[])", [stocks])
        return [SETTLED] * len(entries)

    def failing(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        writing(connection, entries)
        raise DatabaseUnavailableError("away")

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(n) for n in range(5)])
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError):
                await log.deliver(failing, limit=10, wait_seconds=WAIT)
        assert store.execute("SELECT FROM seen") == []

        def applying(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
            taken(connection, entries)
            return writing(connection, entries)

        assert await delivered(log, 5, applying) == 5
        assert [entry.attempts for entry in taken.entries] == [0] * 5
        assert sorted(store.execute("SELECT stock FROM seen")) == [(n,) for n in range(5)]

    store.run(test)


def test_defect_while_applying_is_told_and_loses_nothing(store: EventStore) -> None:
    def broken(_connection: psycopg.Connection, _entries: Sequence[Entry]) -> list[Verdict]:
        raise ZeroDivisionError

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(1), event(2)])
        with pytest.raises(ZeroDivisionError):
            await log.deliver(broken, limit=10, wait_seconds=WAIT)
        assert await delivered(log, 2, taken) == 2
        assert sorted(taken.stocks) == [1, 2]

    store.run(test)


def test_what_a_process_leaves_comes_to_another(store: EventStore) -> None:
    """It had taken them, could not apply them, and was stopped."""

    def failing(_connection: psycopg.Connection, _entries: Sequence[Entry]) -> list[Verdict]:
        raise DatabaseUnavailableError("away")

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(n) for n in range(5)])
        with pytest.raises(DatabaseUnavailableError):
            await log.deliver(failing, limit=10, wait_seconds=WAIT)
        await log.close()
        assert await delivered(store.open(), 5, taken) == 5
        assert sorted(taken.stocks) == list(range(5))

    store.run(test)


def test_backlog_counts_and_dates(store: EventStore) -> None:
    async def test() -> None:
        log, other = store.open(), store.open()
        before = datetime.now(UTC)
        await log.append([event(1)])
        between = datetime.now(UTC)
        await log.append([event(2), event(3)])
        found = await other.backlog()
        assert found.waiting == 3
        assert found.oldest is not None
        # By the clock of whoever keeps them.
        assert before - timedelta(seconds=1) <= found.oldest <= between
        await delivered(log, 1, Taken(), limit=1)
        found = await waiting(other, 2)
        assert found.oldest is not None
        assert found.oldest >= between - timedelta(milliseconds=1)
        await delivered(log, 2, Taken())
        assert await waiting(other, 0) == Backlog(0, None)

    store.run(test)


def test_closed(store: EventStore) -> None:
    """What was given is stored, what comes later is refused; twice is once."""

    async def test() -> None:
        log = store.open()
        given = [asyncio.ensure_future(log.append([event(n)])) for n in range(20)]
        await asyncio.sleep(0)
        await log.close()
        assert await asyncio.gather(*given) == [[ACCEPTED]] * 20
        await log.close()
        with pytest.raises(HandedOverError):
            await log.append([event(1)])
        assert (await store.open().backlog()).waiting == 20

    store.run(test)


def test_senders_who_leave(store: EventStore) -> None:
    """They may or may not be stored; the others are."""

    async def test() -> None:
        log, taken = store.open(), Taken()
        await log.append([event(1000)])
        tasks = [asyncio.ensure_future(log.append([event(n)])) for n in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1::2] == [[ACCEPTED]] * 20
        assert await log.append([event(1001)]) == [ACCEPTED]
        await delivered(log, (await log.backlog()).waiting, taken)
        assert {1000, 1001, *range(1, 40, 2)} <= set(taken.stocks) <= {1000, 1001, *range(40)}
        assert len(set(taken.stocks)) == len(taken.stocks)

    store.run(test)


def test_many_senders_and_takers(store: EventStore) -> None:
    """Eight senders with requests of any size on two servers, two workers that put some off: each event exactly once."""
    chance = random.Random(11)
    parts: list[list[Event]] = [[event(1000 * sender + n) for n in range(120)] for sender in range(8)]

    async def send(part: list[Event], number: int) -> None:
        chosen = logs[number % 2]
        chance.shuffle(part)
        while part:
            size = chance.choice([1, 1, 5, 30])
            assert await chosen.append(part[:size]) == [ACCEPTED] * len(part[:size])
            del part[:size]

    logs = [store.open(), store.open()]
    expected = Counter(one.stock for part in parts for one in part)
    settled: Counter[int] = Counter()

    def handle(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for entry in entries:
            assert isinstance(entry.content, Event)
            late = entry.content.stock % 10 == 0 and not entry.attempts
            verdicts.append(Retry(0.01) if late else SETTLED)
            settled[entry.content.stock] += not late
        return verdicts

    async def work(number: int) -> None:
        async with asyncio.timeout(60):
            while settled.total() < expected.total():
                await logs[number].deliver(handle, limit=100, wait_seconds=WAIT)

    async def test() -> None:
        await asyncio.gather(*(send(part, number) for number, part in enumerate(parts)), work(0), work(1))
        await waiting(logs[0], 0)
        assert settled == expected

    store.run(test)
