"""Events that could not be applied: to look at, to send into the log again, to forget."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.database.sqlstates import translated
from penstock.errors import DeadLetterNotFoundError, EventLogUnavailableError, InvalidStateError, QueueFullError
from penstock.events.log import EventLog
from penstock.events.model import DeadLetterId, Event, Outcome
from penstock.lifecycle import cursors

Connection = psycopg.Connection[Any]
Loop = asyncio.AbstractEventLoop

MOST_RAW = 4096  # bytes that are shown of what is no event
_GROUP = 500  # dead letters that are sent into the log again at once
_APPEND_SECONDS = 15.0  # for the log to take them; below the time that a session may sit in a transaction

_SQL = load("penstock.events", "dead_letters.sql")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event and why it could not be applied; or what the log held that is no event, then only `raw` says what it was."""

    dead_letter_id: DeadLetterId
    product_id: str | None
    price: Decimal | None
    stock: int | None
    occurred_at: datetime | None
    event_id: str | None
    accepted_at: datetime | None
    raw: str | None  # the first MOST_RAW bytes, with escapes (`\x00`) for what is no printable text
    code: str  # invalid_event, refused_by_database, retries_exhausted
    reason: str
    attempts: int
    died_at: datetime


@dataclass(frozen=True, slots=True)
class _Wanted:
    product_id: str | None
    code: str | None


@dataclass(slots=True)
class _Round:
    """A replay of many, group by group: those that had died when it began."""

    wanted: _Wanted
    until: datetime | None = None
    after: datetime | None = None
    after_id: UUID | None = None
    replayed: int = 0
    done: bool = False


class DeadLetters:
    """What is not async blocks, is to be called in threads, and may be by several. Everything may raise DatabaseError."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    def page(
        self, *, limit: int, cursor: str | None = None, product_id: str | None = None, code: str | None = None
    ) -> tuple[list[DeadLetter], str | None]:
        """The newest first, and the cursor of the next page. Raises InvalidOptionError for a cursor that no page gave."""
        before, before_id = cursors.decoded(cursor, things="dead letters")
        values = {"product_id": product_id, "code": code, "limit": limit + 1, "before": before, "before_id": before_id}
        with self._session() as connection, connection.cursor(row_factory=dict_row) as rows:
            letters = [_letter(row) for row in rows.execute(_SQL["page"], {**values, "most_raw": MOST_RAW})]
        if len(letters) <= limit:
            return letters, None
        last = letters[limit - 1]
        return letters[:limit], cursors.encoded(last.died_at, last.dead_letter_id)

    def get(self, dead_letter_id: DeadLetterId) -> DeadLetter:
        """Raises DeadLetterNotFoundError."""
        with self._session() as connection, connection.cursor(row_factory=dict_row) as rows:
            row = rows.execute(_SQL["get"], {"dead_letter_id": dead_letter_id, "most_raw": MOST_RAW}).fetchone()
        if row is None:
            raise _missing(dead_letter_id)
        return _letter(row)

    def discard(self, dead_letter_id: DeadLetterId) -> None:
        """Forget it for good. Raises DeadLetterNotFoundError."""
        with self._session() as connection:
            if not connection.execute(_SQL["remove"], {"ids": [dead_letter_id]}).rowcount:
                raise _missing(dead_letter_id)

    async def replay(self, dead_letter_id: DeadLetterId) -> Outcome:
        """Send the event into the log again: ACCEPTED, and it is no dead letter any more. If its event_id was applied meanwhile, it will
        change nothing.

        Of two at once only one does it, and the other raises DeadLetterNotFoundError. Raises InvalidStateError for what is no event,
        QueueFullError, and as `EventLog.append`. Whoever stops waiting for it does not stop it.
        """
        return await asyncio.to_thread(self._replay, asyncio.get_running_loop(), dead_letter_id)

    async def replay_all(self, *, product_id: str | None = None, code: str | None = None) -> int:
        """The same for all that are dead letters when it begins, the oldest first; how many went. What is no event stays.

        Raises QueueFullError as soon as the log is full, with how many went in `details["replayed"]`; else as `EventLog.append`.
        """
        going, loop = _Round(_Wanted(product_id, code)), asyncio.get_running_loop()
        while not going.done:
            await asyncio.to_thread(self._replay_next, loop, going)
        return going.replayed

    def _replay(self, loop: Loop, dead_letter_id: DeadLetterId) -> Outcome:
        with self._session() as connection:
            with connection.cursor(row_factory=dict_row) as rows:
                row = rows.execute(_SQL["hold"], {"dead_letter_id": dead_letter_id}).fetchone()
            if row is None:
                raise _missing(dead_letter_id)
            if row["is_raw"]:
                raise InvalidStateError(
                    f"Dead letter {dead_letter_id} is no event: it cannot be replayed, only discarded.", dead_letter_id=str(dead_letter_id)
                )
            (outcome,) = self._append(loop, [_event(row)])
            if outcome is Outcome.FULL:
                raise _full(0)
            reach(CrashPoint.DEAD_LETTERS_RETURNED)
            connection.execute(_SQL["remove"], {"ids": [dead_letter_id]})
        return outcome

    def _replay_next(self, loop: Loop, going: _Round) -> None:
        with self._session() as connection:
            rows = self._hold_next(connection, going)
            if len(rows) < _GROUP:
                going.done = True
            if not rows:
                return
            outcomes = self._append(loop, [_event(row) for row in rows])
            reach(CrashPoint.DEAD_LETTERS_RETURNED)
            gone = [row["dead_letter_id"] for row, outcome in zip(rows, outcomes, strict=True) if outcome is not Outcome.FULL]
            connection.execute(_SQL["remove"], {"ids": gone})
        going.replayed += len(gone)
        if len(gone) < len(rows):
            raise _full(going.replayed)

    def _hold_next(self, connection: Connection, going: _Round) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            if going.until is None:
                going.until = cursor.execute(_SQL["now"]).fetchall()[0]["clock_timestamp"]
            values = {
                "until": going.until,
                "after": going.after,
                "after_id": going.after_id,
                "product_id": going.wanted.product_id,
                "code": going.wanted.code,
                "limit": _GROUP,
            }
            rows = cursor.execute(_SQL["hold_next"], values).fetchall()
        if rows:
            going.after, going.after_id = rows[-1]["died_at"], rows[-1]["dead_letter_id"]
        return rows

    def _append(self, loop: Loop, events: Sequence[Event]) -> list[Outcome]:
        """On the log's loop, waited for here: the rows stay locked meanwhile, and for no longer than _APPEND_SECONDS."""
        future = asyncio.run_coroutine_threadsafe(self._log.append(events, again=True), loop)
        try:
            return future.result(_APPEND_SECONDS)
        except (TimeoutError, CancelledError) as error:
            future.cancel()
            raise EventLogUnavailableError(
                f"The event log did not take the events within {_APPEND_SECONDS:.0f} s. They stay dead letters; try again."
            ) from error

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with self._database.connection() as connection, translated("looking after dead letters"):
            yield connection


def _event(row: dict[str, Any]) -> Event:
    """Accepted now: how long it waits counts from here. When it occurred stays what it was."""
    names = ("product_id", "price", "stock", "occurred_at", "event_id")
    return Event(**{name: row[name] for name in names}, accepted_at=datetime.now(UTC))


def _letter(row: dict[str, Any]) -> DeadLetter:
    return DeadLetter(**{**row, "raw": None if row["raw"] is None else _shown(row["raw"])})


def _shown(raw: bytes) -> str:
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _missing(dead_letter_id: DeadLetterId) -> DeadLetterNotFoundError:
    return DeadLetterNotFoundError(f"There is no dead letter {dead_letter_id}.", dead_letter_id=str(dead_letter_id))


def _full(replayed: int) -> QueueFullError:
    return QueueFullError(
        f"As many events wait as may wait (QUEUE_SIZE); {replayed} dead letters were replayed. Try again later.", replayed=replayed
    )
