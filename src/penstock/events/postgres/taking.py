"""Taking events out of the log and settling them, in the one transaction that applies them."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError, HandedOverError
from penstock.events.log import Handle
from penstock.events.model import Entry, Event, Retry, Unreadable, Verdict
from penstock.events.postgres.faults import faults
from penstock.events.postgres.places import Rarely, Start
from penstock.lifecycle.gate import Gate
from penstock.logs import get_logger

_LOCK_SECONDS, _STATEMENT_SECONDS, _ANSWER_SECONDS = 5, 60, 70.0
_PERMIT_SECONDS = 5.0  # after that the caller is told that there was nothing, and asks again
_LONGEST_SLEEP = 1.0  # what other processes accept is found by looking
_SHORTEST_SLEEP = 0.005
_SQL = load("penstock.events", "log.sql")
_DOING = "events were applied"


class Places:
    """Where a process begins to look: by position for new events, by the moment when they are due for others."""

    def __init__(self) -> None:
        self.events: Start[int] = Start(0)
        self.retries: Start[datetime] = Start(datetime(1, 1, 1, tzinfo=UTC))
        self.anchoring = Rarely()

    def values(self, limit: int) -> dict[str, Any]:
        return {"position": self.events.begin, "due": self.retries.begin, "limit": limit}

    def anchor(self, connection: psycopg.Connection) -> None:
        """Now and then: look from the very start."""
        if not self.anchoring.begin():
            return
        try:
            self.look_from_the_start(connection)
        finally:
            self.anchoring.end()

    def look_from_the_start(self, connection: psycopg.Connection) -> None:
        row = connection.execute(_SQL["first_of_all"]).fetchone()
        assert row is not None
        self.events.first_is_at(row[0])
        self.retries.first_is_at(row[1])


class News:
    """Wakes those who wait for events when this process has accepted some."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._told = 0
        self.stopped = False

    @property
    def told(self) -> int:
        return self._told

    def tell(self) -> None:
        with self._condition:
            self._told += 1
            self._condition.notify_all()

    def stop(self) -> None:
        self.stopped = True
        self.tell()

    def wait(self, after: int, seconds: float) -> None:
        """Until something was told after `told` was so much, at most so long."""
        with self._condition:
            self._condition.wait_for(lambda: self._told != after, seconds)


class Taker:
    """`deliver` is called by several threads at once, each of which gets a connection for itself."""

    def __init__(self, database: Database, gate: Gate, news: News, places: Places) -> None:
        self._database = database
        self._gate = gate
        self._news = news
        self._places = places
        self._limits = replace(database.limits, lock=_LOCK_SECONDS, statement=_STATEMENT_SECONDS)
        self._guard = threading.Lock()
        self._idle: list[psycopg.Connection] = []
        self._plenty = False  # the last batch was full: there will be more

    def deliver(self, handle: Handle, *, limit: int, wait_seconds: float) -> int:
        """As `EventLog.deliver`. Raises HandedOverError after `close`."""
        deadline = time.monotonic() + wait_seconds
        with self._connected() as connection:
            self._places.anchor(connection)  # here too: while every batch is full nobody waits
            while True:
                if (self._plenty or self._awaited(connection, limit, deadline)) and (taken := self._batch(connection, handle, limit)):
                    self._plenty = taken >= limit
                    return taken
                self._plenty = False
                if self._news.stopped or (left := deadline - time.monotonic()) <= 0:
                    return 0
                # Others have what there is.
                time.sleep(min(left, max(wait_seconds / 4, _SHORTEST_SLEEP), _LONGEST_SLEEP))

    def close(self) -> None:
        """Connections in use close when they come back."""
        self._news.stop()
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        with self._guard:
            if self._news.stopped:
                raise HandedOverError("This process stops and applies no more events.")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._database.connect(
                autocommit=True, limits=self._limits, answer_seconds=_ANSWER_SECONDS, application_name="penstock events"
            )
        try:
            with faults(_DOING):
                yield connection
        except BaseException as error:
            connection.close()  # and with it the transaction, whatever state it is in
            if isinstance(error, DatabaseUnavailableError):
                self._drop_idle()
            raise
        with self._guard:
            if not self._news.stopped:
                self._idle.append(connection)
                return
        connection.close()

    def _drop_idle(self) -> None:
        """They broke with the one that found out."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _awaited(self, connection: psycopg.Connection, limit: int, deadline: float) -> bool:
        """Whether there is something to take: at once where it fills a batch, else when the time is up."""
        pause = max((deadline - time.monotonic()) / 4, _SHORTEST_SLEEP)
        while True:
            self._places.anchor(connection)
            told = self._news.told
            there = self._look(connection, limit)
            left = deadline - time.monotonic()
            if there >= limit or left <= 0 or self._news.stopped:
                return there > 0
            if there:
                time.sleep(min(left, pause, _LONGEST_SLEEP))
            else:
                self._news.wait(told, min(left, _LONGEST_SLEEP))

    def _look(self, connection: psycopg.Connection, limit: int) -> int:
        row = connection.execute(_SQL["look"], self._places.values(limit)).fetchone()
        assert row is not None
        there, position, due = row
        self._places.events.first_is_at(position)
        self._places.retries.first_is_at(due)
        assert isinstance(there, int)
        return there

    def _batch(self, connection: psycopg.Connection, handle: Handle, limit: int) -> int:
        """Take, apply, settle. A permit is held as long as the transaction, and never while waiting for events."""
        with self._gate.try_permit(_PERMIT_SECONDS) as permitted:
            if not permitted:
                get_logger(__name__).info("no events were applied: imports and exports have all of IMPORT_WORKERS")
                return 0
            connection.set_autocommit(False)
            batch = _Batch(connection, self._places, limit)
            try:
                entries = batch.take()
                if entries:
                    batch.settle(entries, handle(connection, entries))
                connection.commit()
            except BaseException:
                batch.comes_back()
                raise
            connection.set_autocommit(True)
        if entries:
            reach(CrashPoint.EVENTS_COMMITTED)
        return len(entries)


class _Batch:
    """What one transaction takes."""

    def __init__(self, connection: psycopg.Connection, places: Places, limit: int) -> None:
        self._connection = connection
        self._places = places
        self._limit = limit
        self._first: int | None = None
        self._first_due: datetime | None = None

    def take(self) -> list[Entry]:
        """Those first that failed before, but no more than half of the batch while there are others."""
        half = max(1, self._limit // 2)
        due = self._due(half)
        new = self._new(self._limit - len(due))
        if len(due) == half and (left := self._limit - half - len(new)) > 0:
            due += self._due(left)
        return due + new

    def settle(self, entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> None:
        """Raises DatabaseRefusedError where the transaction has failed: its COMMIT would take nothing back, and say nothing."""
        late = [(entry, verdict.seconds) for entry, verdict in zip(entries, verdicts, strict=True) if isinstance(verdict, Retry)]
        if self._connection.info.transaction_status is not TransactionStatus.INTRANS:
            raise DatabaseRefusedError("Applying events left a failed transaction behind: nothing of it was kept.")
        if late:
            self._connection.execute(_SQL["put_off"], _columns(late))

    def comes_back(self) -> None:
        """Nothing was settled: whoever looks next must find it."""
        if self._first is not None:
            self._places.events.first_is_at(self._first)
        if self._first_due is not None:
            self._places.retries.first_is_at(self._first_due)

    def _new(self, limit: int) -> list[Entry]:
        if limit <= 0:
            return []
        cursor = self._connection.cursor(binary=True)
        rows = cursor.execute(_SQL["take"], {"position": self._places.events.begin, "limit": limit}).fetchall()
        if rows:
            self._first = rows[0][7]
            self._places.events.first_is_at(rows[0][7])
        return _entries(rows)

    def _due(self, limit: int) -> list[Entry]:
        cursor = self._connection.cursor(binary=True)
        rows = cursor.execute(_SQL["take_due"], {"due": self._places.retries.begin, "limit": limit}).fetchall()
        if rows:
            self._first_due = self._first_due or rows[0][7]
            self._places.retries.first_is_at(rows[0][7])
        return _entries(rows)


def _entries(rows: Sequence[tuple[Any, ...]]) -> list[Entry]:
    return [
        Entry(
            Event(product_id=product_id, price=price, stock=stock, occurred_at=occurred_at, event_id=event_id, accepted_at=accepted_at),
            attempts,
        )
        for attempts, product_id, price, stock, occurred_at, event_id, accepted_at, _place in rows
    ]


def _columns(late: Sequence[tuple[Entry, float]]) -> dict[str, list[Any]]:
    events = []
    for entry, _seconds in late:
        assert not isinstance(entry.content, Unreadable), "the tables hold only what can be read"
        events.append(entry.content)
    return {
        "product_id": [event.product_id for event in events],
        "price": [event.price for event in events],
        "stock": [event.stock for event in events],
        "occurred_at": [event.occurred_at for event in events],
        "event_id": [event.event_id for event in events],
        "accepted_at": [event.accepted_at for event in events],
        "attempts": [entry.attempts + 1 for entry, _seconds in late],
        "seconds": [seconds for _entry, seconds in late],
    }
