"""Accepting events: one thread writes what all requests wait with, one COPY and one commit for as many as came while it wrote the last.

The thread and its COPY cost the event loop next to nothing for each event: that is what the number of events per second hangs on.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.errors import DatabaseRefusedError, HandedOverError, OverloadedError, PenstockError
from penstock.events.breaker import Breaker
from penstock.events.model import Event, Outcome
from penstock.events.postgres.faults import is_of_the_data, translate
from penstock.events.postgres.room import Room
from penstock.logs import get_logger

GROUP_EVENTS = 2000  # a group ends with the request that brings it there
MOST_REQUESTS = 10_000  # that wait in memory
MOST_EVENTS = 200_000  # of them all
_CLOSE_SECONDS = 5.0
_LOCK_SECONDS, _STATEMENT_SECONDS, _ANSWER_SECONDS = 5, 8, 10.0
_LONG_SECONDS = 5.0  # a group that fails after so long takes those with it who waited behind it
_TYPES = ["text", "numeric", "int4", "timestamptz", "text", "timestamptz"]
_SMALLEST, _LARGEST = -(2**31), 2**31 - 1
_SQL = load("penstock.events", "log.sql")
_DOING = "events were stored"
_ACCEPTED, _DUPLICATE, _FULL = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FULL

# Plain tuples, one for each request: events, whether they come back from the dead letters, who waits.
_Request = tuple[Sequence[Event], bool, "asyncio.Future[list[Outcome]]"]
_Answer = list[Outcome] | PenstockError


class Writer:
    """`put` and `close` are called on one event loop. `stored` is called in the writer's thread after each commit."""

    def __init__(self, database: Database, breaker: Breaker, *, bound: int, stored: Callable[[], None]) -> None:
        self._database = database
        self._breaker = breaker
        self._stored = stored
        self._room = Room(bound)
        self._limits = replace(database.limits, lock=_LOCK_SECONDS, statement=_STATEMENT_SECONDS)
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._events = 0  # given, and not answered; of the event loop
        self._thread: threading.Thread | None = None
        self._closed = False
        # Of the thread:
        self._connection: psycopg.Connection | None = None
        self._group: list[_Request] = []
        self._ending = False

    def put(self, events: Sequence[Event], *, again: bool) -> "asyncio.Future[list[Outcome]]":
        """What becomes of them. Raises CircuitOpenError, OverloadedError, HandedOverError."""
        if self._closed:
            raise _handed_over()
        self._breaker.check()
        if self._waiting.qsize() >= MOST_REQUESTS or self._events >= MOST_EVENTS:
            raise OverloadedError("As many events wait to be stored as may wait. Try again.", retry_after_seconds=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        if not events:
            future.set_result([])
            return future
        if self._thread is None:
            thread = threading.Thread(target=self._run, args=(loop,), name="penstock-events")
            thread.start()
            self._thread = thread
        self._events += len(events)
        self._waiting.put((events, again, future))
        return future

    async def close(self) -> None:
        """What was given is stored; who still waits after _CLOSE_SECONDS gets HandedOverError."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        if (thread := self._thread) is None:
            return
        await asyncio.to_thread(thread.join, _CLOSE_SECONDS)
        if thread.is_alive():  # the database hangs; its limits end this thread too, later
            left = [*self._group, *self._all_that_wait()]
            _tell(left, [_handed_over()] * len(left))
            get_logger(__name__).error("events were not stored before the end: their senders were told to send again", requests=len(left))

    def _all_that_wait(self) -> list[_Request]:
        """They wait no longer; the end, where it is among them, still comes."""
        found: list[_Request] = []
        ends = False
        with suppress(queue.Empty):
            while True:
                if (request := self._waiting.get_nowait()) is None:
                    ends = True
                else:
                    found.append(request)
        if ends:
            self._waiting.put(None)
        return found

    # In the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._ending:
                if not (group := self._next_group()):
                    continue
                self._group = group
                answers = self._answers(group)
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._told, group, answers)
                self._group = []
        finally:
            self._disconnect()

    def _told(self, group: list[_Request], answers: list[_Answer]) -> None:
        self._events -= sum(len(events) for events, _again, _future in group)
        _tell(group, answers)

    def _next_group(self) -> list[_Request]:
        """What waits, at once; waits for the first."""
        group: list[_Request] = []
        size = 0
        request = self._waiting.get()
        with suppress(queue.Empty):
            while request is not None:
                group.append(request)
                size += len(request[0])
                if size >= GROUP_EVENTS:
                    return group
                request = self._waiting.get_nowait()
            self._ending = True
        return group

    def _answers(self, group: list[_Request]) -> list[_Answer]:
        """For each; the group may have become larger."""
        began = time.monotonic()
        try:
            with self._breaker.guard():
                answers = self._store(group)
        except PenstockError as error:
            if time.monotonic() - began >= _LONG_SECONDS:  # the next group may take as long again
                group += self._all_that_wait()
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001 - a thread that ends would leave every later sender waiting
            get_logger(__name__).exception("storing events broke")
            self._disconnect()
            return [PenstockError(f"Events could not be stored: {type(error).__name__}, a defect. The log has it.")] * len(group)
        self._stored()
        return answers

    def _store(self, group: list[_Request]) -> list[_Answer]:
        """Where a value is refused, the group is halved until it is known whose it is, so that the others' events are stored.

        Raises DatabaseError where it is not for a value.
        """
        try:
            return [*self._write(self._connected(), group)]
        except (psycopg.Error, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, psycopg.Error) and not is_of_the_data(error):
                self._disconnect()
                raise translate(error, doing=_DOING) from error
            if len(group) == 1:
                return [_refused(error)]
        middle = len(group) // 2
        return self._store(group[:middle]) + self._store(group[middle:])

    def _write(self, connection: psycopg.Connection, group: list[_Request]) -> list[list[Outcome]]:
        cursor = connection.cursor()
        seen = _known_ids(cursor, group)
        total = sum(len(events) for events, _again, _future in group)
        room = self._room.up_to(cursor, total)
        if seen is None and room == total:
            with _copy(cursor) as write:
                for events, _again, _future in group:
                    for event in events:
                        write(event)
            outcomes = [[_ACCEPTED] * len(events) for events, _again, _future in group]
        else:
            outcomes, chosen = _chosen(group, seen if seen is not None else set(), room)
            if not chosen:
                return outcomes
            with _copy(cursor) as write:
                for event in chosen:
                    write(event)
        reach(CrashPoint.EVENTS_STORED)
        return outcomes

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            connection = self._database.connect(
                autocommit=True, limits=self._limits, answer_seconds=_ANSWER_SECONDS, application_name="penstock events"
            )
            self._connection = connection
            connection.execute(_SQL["make_durable"])
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._room.forget()
        if connection is not None:
            connection.close()


def _known_ids(cursor: psycopg.Cursor, group: list[_Request]) -> set[str] | None:
    """Of the ids that the group brings, those that were applied; None where it brings none that count."""
    ids = [event.event_id for events, again, _future in group if not again for event in events if event.event_id is not None]
    if not ids:
        return None
    return {event_id for (event_id,) in cursor.execute(_SQL["known_ids"], {"ids": ids}).fetchall()}


def _chosen(group: list[_Request], seen: set[str], room: int) -> tuple[list[list[Outcome]], list[Event]]:
    """What becomes of each, and those to store, in their order."""
    chosen: list[Event] = []
    everything = []
    for events, again, _future in group:
        outcomes = []
        for event in events:
            name = None if again else event.event_id
            if name is not None and name in seen:
                outcomes.append(_DUPLICATE)
            elif len(chosen) >= room:
                outcomes.append(_FULL)
            else:
                if name is not None:
                    seen.add(name)
                chosen.append(event)
                outcomes.append(_ACCEPTED)
        everything.append(outcomes)
    return everything, chosen


@contextmanager
def _copy(cursor: psycopg.Cursor) -> Iterator[Callable[[Event], None]]:
    """In PostgreSQL's binary format: a third of the work of its text, and nothing to escape."""
    with cursor.copy(_SQL["store"]) as copy:
        copy.set_types(_TYPES)
        write_row = copy.write_row

        def write(event: Event) -> None:
            if not _SMALLEST <= event.stock <= _LARGEST:  # the driver would drop the upper bits without a word
                raise OverflowError("stock")
            write_row((event.product_id, event.price, event.stock, event.occurred_at, event.event_id, event.accepted_at))

        yield write


def _tell(group: Sequence[_Request], answers: Sequence[_Answer]) -> None:
    for (_events, _again, future), answer in zip(group, answers, strict=True):
        if future.done():  # its sender has left
            continue
        if isinstance(answer, PenstockError):
            # One for each: an exception grows with every place that it is raised in.
            future.set_exception(type(answer)(answer.message, **answer.details))
        else:
            future.set_result(answer)


def _refused(error: Exception) -> PenstockError:
    if isinstance(error, psycopg.Error):
        return translate(error, doing=_DOING)
    name = type(error).__name__
    get_logger(__name__).warning("an event cannot be written down for PostgreSQL", kind=name)
    return DatabaseRefusedError(f"An event holds a value that PostgreSQL has no form for ({name}).")


def _handed_over() -> HandedOverError:
    return HandedOverError("This process stops and takes no more events. Send them again.")
