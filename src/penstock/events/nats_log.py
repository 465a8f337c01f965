"""The event log on NATS JetStream: a stream that refuses what it has no room for, one consumer for all workers, explicit acknowledgements.

An event is durable when the server (with several replicas, most of them) has written it; how far that goes stands in docs/nats.md.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import nats.errors
import psycopg
from nats.aio.client import Client

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.database.sqlstates import translated
from penstock.errors import EventLogUnavailableError, HandedOverError, SettingsError
from penstock.events.breaker import Breaker
from penstock.events.log import Handle
from penstock.events.model import Backlog, Entry, Event, Outcome, Verdict
from penstock.events.nats.link import Link, servers_of
from penstock.events.nats.messages import packed
from penstock.events.nats.pulling import Batch, Held, Keeper, Puller
from penstock.events.nats.sending import Message, Sender
from penstock.events.nats.stream import CONSUMER, Stream
from penstock.lifecycle.gate import Gate
from penstock.logs import get_logger
from penstock.settings import Settings

_PERMIT_SECONDS = 5.0
_LOCK_SECONDS, _STATEMENT_SECONDS, _ANSWER_SECONDS = 5, 60, 70.0
_CLOSE_SECONDS = 5.0
_HELD_SECONDS = 30.0
_SQL = load("penstock.events", "log.sql")
_UNDER_WAY = 4  # times what one process has under way at most: several share the consumer


class NatsLog:
    """As `EventLog`; made without a connection, which its first use makes.

    `Entry.attempts` is how often NATS has delivered it before. So an attempt that ended with its process counts, and so does a graceful
    end; an outage of the database does not, because what could not be applied stays in this process until it can.

    DUPLICATE is what the stream remembers: the event_ids of the last minutes (its duplicate window). Older ones are found out when they
    are applied.
    """

    def __init__(self, database: Database, settings: Settings, *, gate: Gate) -> None:
        """Raises SettingsError."""
        assert settings.nats_url is not None
        self._database = database
        self._gate = gate
        self._limits = replace(database.limits, lock=_LOCK_SECONDS, statement=_STATEMENT_SECONDS)
        self._breaker = Breaker("NATS", threshold=settings.circuit_breaker_threshold, timeout_seconds=settings.circuit_breaker_timeout)
        self._link = Link(servers_of(settings.nats_url.get_secret_value()), on_lost=self._lost)
        under_way = settings.workers * settings.batch_size * _UNDER_WAY
        self._stream = Stream(self._link, settings.nats_stream, queue_size=settings.queue_size, under_way=under_way)
        self._sender = Sender(self._link, self._stream.subject, on_missing=self._forget)
        self._prepared: Client | None = None  # for which client the stream and the consumer were looked at
        self._preparing = asyncio.Lock()
        self._ack_wait = 0.0
        self._pullers: list[Puller] = []
        self._free_pullers: list[Puller] = []
        self._keeper = Keeper()
        self._held: deque[Batch] = deque()  # to be applied before anything new is asked for
        self._working: set[asyncio.Task[int]] = set()
        self._under_way = 0  # appends and fetches
        self._quiet = asyncio.Event()  # there are none
        self._quiet.set()
        self._threads = ThreadPoolExecutor(settings.workers, "penstock-events")
        self._idle: deque[psycopg.Connection] = deque()
        self._closed = False

    async def append(self, events: Sequence[Event], *, again: bool = False) -> list[Outcome]:
        messages = [Message(packed(event), None if again else event.event_id) for event in events]
        with self._counted(), self._breaker.guard():
            await self._ready()
            outcomes = await self._sender.send(messages)
        reach(CrashPoint.EVENTS_STORED)
        return outcomes

    async def deliver(self, handle: Handle, *, limit: int, wait_seconds: float) -> int:
        """As `EventLog.deliver`. Where no permit is to be had for some seconds it keeps what it took, and 0 is what it did."""
        batch = self._held.popleft() if self._held else await self._fetched(limit, wait_seconds)
        if batch is None:
            return 0
        # Whoever waits may be cancelled. What is in the hands of a thread goes to its end all the same, and is settled.
        work = asyncio.create_task(self._work(handle, batch))
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        return await asyncio.shield(work)

    async def backlog(self) -> Backlog:
        await self._ready()
        state = await self._stream.state()
        return Backlog(state.waiting, state.oldest)

    async def check(self) -> None:
        """Raises SettingsError too, where the stream or its consumer would lose events."""
        await self._link.client()
        await self._stream.prepare()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for puller in self._pullers:
            puller.lost()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._quiet.wait()
                await asyncio.gather(*self._working, return_exceptions=True)
        for work in list(self._working):
            work.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._keeper.end()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._let_go()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            get_logger(__name__).warning("events that were under way come to others only in a while", kind=type(error).__name__)
        await self._link.close()
        self._threads.shutdown(wait=False)
        while self._idle:
            self._idle.pop().close()

    async def _let_go(self) -> None:
        for puller in self._pullers:
            await Batch(await puller.end()).release()
        while self._held:
            await self._held.popleft().release()

    async def _ready(self) -> None:
        """Raises EventLogUnavailableError; HandedOverError."""
        client = await self._link.client()
        if client is self._prepared:
            return
        async with self._preparing:
            if client is self._prepared:
                return
            try:
                self._ack_wait = await self._stream.prepare()
            except SettingsError as error:  # it is no fault of who sends events
                get_logger(__name__).error("the stream cannot be used", reason=error.message)
                raise EventLogUnavailableError(error.message) from error
            self._prepared = client

    def _forget(self) -> None:
        self._prepared = None

    def _lost(self) -> None:
        self._sender.lost()
        for puller in self._pullers:
            puller.lost()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """`close` waits for what is inside."""
        if self._closed:
            raise HandedOverError("This process stops and takes no more events.")
        self._under_way += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._quiet.set()

    async def _fetched(self, limit: int, wait_seconds: float) -> Batch | None:
        with self._counted():
            await self._ready()
            with self._puller() as puller:
                try:
                    messages = await puller.fetch(limit, wait_seconds=wait_seconds, fresh_seconds=self._ack_wait / 4)
                except EventLogUnavailableError:
                    if self._closed:
                        return None
                    raise
            if not messages:
                return None
            batch = Batch(messages)
            self._keeper.keep(batch, ack_wait=self._ack_wait)
            return batch

    @contextmanager
    def _puller(self) -> Iterator[Puller]:
        """One for each that asks at the same time: a message does not say which request it answers."""
        if not self._free_pullers:
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream.name}.{CONSUMER}"
            self._free_pullers.append(Puller(self._link, subject, on_missing=self._forget))
            self._pullers.append(self._free_pullers[-1])
        puller = self._free_pullers.pop()
        try:
            yield puller
        finally:
            self._free_pullers.append(puller)

    async def _work(self, handle: Handle, batch: Batch) -> int:
        try:
            verdicts = await asyncio.get_running_loop().run_in_executor(self._threads, self._apply, handle, batch.entries)
        except BaseException:
            await self._hold(batch)
            raise
        if verdicts is None:
            self._held.append(batch)
            return 0
        self._keeper.forget(batch)
        try:
            await batch.settle(verdicts)
        except (nats.errors.Error, OSError) as error:
            get_logger(__name__).warning("NATS was not told what became of events: they come again", kind=type(error).__name__)
        return len(verdicts)

    async def _hold(self, batch: Batch) -> None:
        """Keep it, unless others get on with theirs while we do not: then it is this process that has lost the database."""
        self._held.append(batch)
        if self._closed or (batch.held is not None and time.monotonic() - batch.held.at < _HELD_SECONDS):
            return
        try:
            settled = (await self._stream.state()).settled
            if batch.held is None:
                batch.held = Held(time.monotonic(), settled)
            elif settled > batch.held.settled and batch in self._held:
                self._held.remove(batch)
                self._keeper.forget(batch)
                await batch.release()
        except (EventLogUnavailableError, HandedOverError, nats.errors.Error, OSError) as error:
            get_logger(__name__).warning("events that could not be applied stay in this process", kind=type(error).__name__)

    def _apply(self, handle: Handle, entries: Sequence[Entry]) -> list[Verdict] | None:
        """In a thread. None: there was no permit."""
        with self._gate.try_permit(_PERMIT_SECONDS) as permitted:
            if not permitted:
                return None
            with translated("applying events"), self._connection() as connection:
                verdicts = handle(connection, entries)
                assert len(verdicts) == len(entries)
                connection.commit()
        reach(CrashPoint.EVENTS_COMMITTED)
        return verdicts

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        """One that nobody else has; thrown away where anything fails."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connected()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _connected(self) -> psycopg.Connection:
        connection = self._database.connect(limits=self._limits, answer_seconds=_ANSWER_SECONDS, application_name="penstock events")
        try:
            # NATS forgets what is committed: no crash of the database may take that back.
            connection.execute(_SQL["make_durable"])
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection
