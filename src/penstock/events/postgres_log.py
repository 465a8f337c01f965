"""The event log in PostgreSQL, for whoever has nothing else: accepted by group commit, taken in the transaction that applies them."""

import asyncio
import concurrent.futures
from collections.abc import Sequence
from datetime import datetime

import psycopg

from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.errors import HandedOverError
from penstock.events.breaker import Breaker
from penstock.events.log import Handle
from penstock.events.model import Backlog, Event, Outcome
from penstock.events.postgres.faults import faults
from penstock.events.postgres.storing import Writer
from penstock.events.postgres.taking import News, Places, Taker
from penstock.lifecycle.gate import Gate
from penstock.logs import get_logger
from penstock.settings import Settings

_CLOSE_SECONDS = 5.0
_SQL = load("penstock.events", "log.sql")


class PostgresLog:
    """As `penstock.events.log.EventLog`. Takes nothing of the database before its first use."""

    def __init__(self, database: Database, settings: Settings, *, gate: Gate) -> None:
        self._database = database
        breaker = Breaker(
            "the database of the events", threshold=settings.circuit_breaker_threshold, timeout_seconds=settings.circuit_breaker_timeout
        )
        self._news = News()
        self._places = Places()
        self._writer = Writer(database, breaker, bound=settings.queue_size, stored=self._news.tell)
        self._taker = Taker(database, gate, self._news, self._places)
        self._threads = settings.workers
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._delivering: set[concurrent.futures.Future[int]] = set()

    async def append(self, events: Sequence[Event], *, again: bool = False) -> list[Outcome]:
        """As `EventLog.append`; OverloadedError where too many wait in this process."""
        return await self._writer.put(events, again=again)

    async def deliver(self, handle: Handle, *, limit: int, wait_seconds: float) -> int:
        """As `EventLog.deliver`; in one of WORKERS threads. 0 too where imports and exports left no permit for some seconds."""
        if self._news.stopped:
            raise HandedOverError("This process stops and applies no more events.")
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="penstock-events-applying")
        running = self._executor.submit(self._taker.deliver, handle, limit=limit, wait_seconds=wait_seconds)
        self._delivering.add(running)
        running.add_done_callback(self._delivering.discard)
        return await asyncio.wrap_future(running)

    async def backlog(self) -> Backlog:
        return await asyncio.to_thread(self._backlog)

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    async def close(self) -> None:
        """What was given to `append` is stored, what is being applied is finished, each within seconds."""
        try:
            await self._writer.close()
        finally:  # also where whoever closes gives up waiting for the writer
            self._taker.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            left = (await asyncio.to_thread(concurrent.futures.wait, set(self._delivering), _CLOSE_SECONDS)).not_done
            if left:
                get_logger(__name__).warning(
                    "events are still being applied at the end; what is not committed comes again", batches=len(left)
                )

    def _backlog(self) -> Backlog:
        with faults("the backlog of events was read"), self._database.connection() as connection:
            self._places.anchor(connection)
            waiting, oldest = self._read_backlog(connection)
            if waiting and oldest is None:  # what came back, or became visible late, before where we began
                self._places.look_from_the_start(connection)
                waiting, oldest = self._read_backlog(connection)
        return Backlog(waiting, oldest)

    def _read_backlog(self, connection: psycopg.Connection) -> tuple[int, datetime | None]:
        row = connection.execute(_SQL["backlog"], {"position": self._places.events.begin}).fetchone()
        assert row is not None
        waiting, first, accepted_at, retried_accepted_at, last = row
        self._places.events.first_is_at(last if first is None else first)
        return waiting, min((moment for moment in (accepted_at, retried_accepted_at) if moment is not None), default=None)

    def _check(self) -> None:
        with faults("the event log was looked at"), self._database.connection() as connection:
            connection.execute("SELECT FROM penstock.events LIMIT 0")
