"""Dead letters: looked at, sent into the log again, forgotten; on every log."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from penstock.database.connect import Database
from penstock.errors import (
    DatabaseUnavailableError,
    DeadLetterNotFoundError,
    EventLogUnavailableError,
    InvalidOptionError,
    InvalidStateError,
    QueueFullError,
)
from penstock.events import dead_letters
from penstock.events.dead_letters import DeadLetters
from penstock.events.model import DeadLetterId, Event, Outcome, Retry
from penstock.events.postgres_log import PostgresLog
from tests.events.conftest import EventStore, Taken, delivered, event, waiting
from tests.support.waiting import until

OLD = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def letters_database(store: EventStore) -> Iterator[Database]:
    made = Database(store.conninfo, workers=4, connect_seconds=3)
    yield made
    made.close()


def bury(store: EventStore, count: int = 1, *, product_id: str = "p", code: str = "refused_by_database") -> list[DeadLetterId]:
    """Some more, newer than those before; the oldest first."""
    rows = store.execute(
        "INSERT INTO penstock.dead_letters (product_id, price, stock, occurred_at, accepted_at, event_id, code, reason, attempts, died_at)"
        " SELECT %s, 1.50, n, %s, %s, 'e' || gen_random_uuid(), %s, 'why', 3,"
        " clock_timestamp() + n * interval '1 microsecond' FROM generate_series(1, %s) AS n"
        " RETURNING dead_letter_id",
        product_id, OLD, OLD, code, count,
    )  # fmt: skip
    return [DeadLetterId(row[0]) for row in rows]


def bury_raw(store: EventStore, raw: bytes) -> DeadLetterId:
    ((made,),) = store.execute(
        "INSERT INTO penstock.dead_letters (raw, code, reason, attempts) VALUES (%s, 'invalid_event', 'why', 1) RETURNING dead_letter_id",
        raw,
    )
    return DeadLetterId(made)


async def refuse(_events: Sequence[Event]) -> list[Outcome]:
    raise EventLogUnavailableError("away")


class Answering(PostgresLog):
    """A log that does what no log does on demand, when it is given dead letters."""

    def __init__(self, answer: Callable[[Sequence[Event]], Awaitable[list[Outcome]]]) -> None:
        self._answer = answer

    async def append(self, events: Sequence[Event], *, again: bool = False) -> list[Outcome]:
        assert again
        return await self._answer(events)


def left(store: EventStore) -> int:
    return int(store.execute("SELECT count(*) FROM penstock.dead_letters")[0][0])


def test_the_newest_come_first_page_by_page(store: EventStore, letters_database: Database) -> None:
    letters = DeadLetters(letters_database, store.open())
    ids = bury(store, 5)
    store.execute("UPDATE penstock.dead_letters SET died_at = %s WHERE dead_letter_id = ANY(%s)", OLD, ids[:3])  # at one moment
    seen, cursor = letters.page(limit=2)
    assert [letter.dead_letter_id for letter in seen] == [ids[4], ids[3]]
    while cursor is not None:
        page, cursor = letters.page(limit=2, cursor=cursor)
        assert 0 < len(page) <= 2
        seen += page
    assert [letter.dead_letter_id for letter in seen[2:]] == sorted(ids[:3], reverse=True)
    assert letters.page(limit=5)[1] is None

    async def nothing() -> None:
        """Close the log."""

    store.run(nothing)


def test_filters_hold_for_pages(tables: EventStore) -> None:
    database = Database(tables.conninfo)
    letters = DeadLetters(database, Answering(refuse))
    bury(tables, 2, product_id="a")
    (wanted,) = bury(tables, product_id="a", code="retries_exhausted")
    bury(tables, product_id="b", code="retries_exhausted")
    assert len(letters.page(limit=9, product_id="a")[0]) == 3
    assert len(letters.page(limit=9, code="retries_exhausted")[0]) == 2
    (found,), _ = letters.page(limit=9, product_id="a", code="retries_exhausted")
    assert found == letters.get(wanted)
    assert (found.product_id, found.price, found.stock, found.occurred_at) == ("a", Decimal("1.50"), 1, OLD)
    assert (found.code, found.reason, found.attempts, found.raw) == ("retries_exhausted", "why", 3, None)
    with pytest.raises(InvalidOptionError, match="list of dead letters"):
        letters.page(limit=9, cursor="tomorrow")
    database.close()


def test_what_is_no_event_is_shown_and_cannot_be_replayed(tables: EventStore) -> None:
    database = Database(tables.conninfo)
    letters = DeadLetters(database, Answering(refuse))
    one = bury_raw(tables, b'\x00\xff{"a"\n' + "é".encode())
    assert letters.get(one).raw == r"\x00\xff{" + '"a"' + r"\n" + "é"
    assert len(letters.get(bury_raw(tables, b"x" * 100_000)).raw or "") == dead_letters.MOST_RAW
    with pytest.raises(InvalidStateError, match="discarded"):
        asyncio.run(letters.replay(one))
    assert asyncio.run(letters.replay_all()) == 0
    assert left(tables) == 2
    letters.discard(one)
    with pytest.raises(DeadLetterNotFoundError):
        letters.discard(one)
    with pytest.raises(DeadLetterNotFoundError):
        letters.get(one)
    database.close()


def test_a_replayed_event_is_in_the_log_and_no_dead_letter(store: EventStore, letters_database: Database) -> None:
    log = store.open()
    letters = DeadLetters(letters_database, log)
    (one,) = bury(store, product_id="a")
    began = datetime.now(UTC)

    async def test() -> Taken:
        assert await letters.replay(one) is Outcome.ACCEPTED
        with pytest.raises(DeadLetterNotFoundError):
            await letters.replay(one)
        taken = Taken()
        await delivered(log, 1, taken)
        return taken

    taken = store.run(test)
    (back,) = taken.events
    assert (back.product_id, back.price, back.stock, back.occurred_at) == ("a", Decimal("1.50"), 1, OLD)
    assert back.event_id is not None
    assert back.accepted_at >= began, "how long it waits counts from its return"
    assert taken.entries[0].attempts == 0
    assert left(store) == 0


def test_an_event_that_was_in_the_log_before_goes_there_again(store: EventStore, letters_database: Database) -> None:
    """It is no duplicate of itself."""
    log = store.open()
    letters = DeadLetters(letters_database, log)
    first = event(event_id="x")

    async def test() -> list[int]:
        assert await log.append([first]) == [Outcome.ACCEPTED]
        await delivered(log, 1, Taken())
        ((one,),) = store.execute(
            "INSERT INTO penstock.dead_letters (product_id, price, stock, occurred_at, accepted_at, event_id, code, reason, attempts)"
            " VALUES ('p', 1, 7, now(), now(), 'x', 'refused_by_database', 'why', 1) RETURNING dead_letter_id"
        )
        assert await letters.replay(DeadLetterId(one)) is Outcome.ACCEPTED
        taken = Taken()
        await delivered(log, 1, taken)
        return taken.stocks

    assert store.run(test) == [7]


def test_all_are_replayed_that_were_there(store: EventStore, letters_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group by group; what is no event, and what the filter leaves out, stays."""
    monkeypatch.setattr(dead_letters, "_GROUP", 10)
    log = store.open()
    letters = DeadLetters(letters_database, log)
    bury(store, 25, product_id="a")
    bury(store, 3, product_id="b")
    bury_raw(store, b"x")

    async def test() -> None:
        assert await letters.replay_all(product_id="a") == 25
        taken = Taken()
        await delivered(log, 25, taken)
        assert sorted(taken.stocks) == list(range(1, 26))
        assert await letters.replay_all(code="retries_exhausted") == 0
        assert await letters.replay_all() == 3
        await waiting(log, 3)

    store.run(test)
    assert left(store) == 1


def test_what_dies_again_meanwhile_is_left(tables: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a replay of what cannot be applied would never end."""
    monkeypatch.setattr(dead_letters, "_GROUP", 2)
    database = Database(tables.conninfo)

    async def die_again(events: Sequence[Event]) -> list[Outcome]:
        bury(tables, len(events))
        return [Outcome.ACCEPTED] * len(events)

    bury(tables, 5)
    assert asyncio.run(DeadLetters(database, Answering(die_again)).replay_all()) == 5
    assert left(tables) == 5
    database.close()


def test_a_full_log_stops_it_and_loses_nothing(store: EventStore, letters_database: Database) -> None:
    log = store.open(QUEUE_SIZE="4")
    letters = DeadLetters(letters_database, log)
    ids = bury(store, 10)

    async def test() -> int:
        with pytest.raises(QueueFullError) as stopped:
            await letters.replay_all()
        with pytest.raises(QueueFullError):
            await letters.replay(ids[-1])
        return int(stopped.value.details["replayed"])

    went = store.run(test)
    assert 0 <= went <= 4
    assert left(store) == 10 - went


def test_of_two_replays_at_once_one_does_it(store: EventStore, letters_database: Database) -> None:
    log = store.open()
    letters = DeadLetters(letters_database, log)
    ids = bury(store, 8)

    async def test() -> None:
        twice = await asyncio.gather(*(letters.replay(one) for one in ids * 2), return_exceptions=True)
        assert sorted(type(result).__name__ for result in twice) == ["DeadLetterNotFoundError"] * 8 + ["Outcome"] * 8
        bury(store, 40)
        assert sum(await asyncio.gather(*(letters.replay_all() for _ in range(3)))) == 40
        await waiting(log, 48)

    store.run(test)
    assert left(store) == 0


def test_where_the_log_refuses_all_stay(tables: EventStore) -> None:
    database = Database(tables.conninfo)
    letters = DeadLetters(database, Answering(refuse))
    (one, _) = bury(tables, 2)
    with pytest.raises(EventLogUnavailableError):
        asyncio.run(letters.replay(one))
    with pytest.raises(EventLogUnavailableError):
        asyncio.run(letters.replay_all())
    assert left(tables) == 2
    database.close()


def test_a_log_that_does_not_answer_is_waited_for_so_long_and_no_longer(tables: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_APPEND_SECONDS", 0.1)
    database = Database(tables.conninfo)
    given_up = threading.Event()

    async def say_nothing(_events: Sequence[Event]) -> list[Outcome]:
        try:
            await asyncio.sleep(60)
        finally:
            given_up.set()
        return []

    (one,) = bury(tables)
    with pytest.raises(EventLogUnavailableError, match="stay dead letters"):
        asyncio.run(DeadLetters(database, Answering(say_nothing)).replay(one))
    assert given_up.is_set()
    assert left(tables) == 1
    database.close()


def test_who_stops_waiting_does_not_stop_a_replay(store: EventStore, letters_database: Database) -> None:
    log = store.open()
    letters = DeadLetters(letters_database, log)
    (one,) = bury(store)

    async def test() -> None:
        replay = asyncio.create_task(letters.replay(one))
        await asyncio.sleep(0)
        replay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replay
        assert await asyncio.to_thread(until, lambda: left(store) == 0)
        await waiting(log, 1)

    store.run(test)


def test_unknown_ones_are_told(tables: EventStore) -> None:
    database = Database(tables.conninfo)
    letters = DeadLetters(database, Answering(refuse))
    unknown = DeadLetterId(uuid4())
    for look in (letters.get, letters.discard, lambda one: asyncio.run(letters.replay(one))):
        with pytest.raises(DeadLetterNotFoundError, match=str(unknown)):
            look(unknown)
    database.close()


def test_an_outage_is_told(tables: EventStore) -> None:
    database = Database(tables.conninfo.replace("dbname=", "dbname=gone_"), connect_seconds=1)
    letters = DeadLetters(database, Answering(refuse))
    with pytest.raises(DatabaseUnavailableError):
        letters.page(limit=1)
    database.close()


def test_a_retried_event_is_no_dead_letter(store: EventStore) -> None:
    log = store.open()

    async def test() -> None:
        await log.append([event()])
        await delivered(log, 1, Taken(Retry(3600)))
        await waiting(log, 1)

    store.run(test)
    assert left(store) == 0
