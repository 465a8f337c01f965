"""Taking entries from the queue: at most as many as there are free slots, through every outage, until told to stop.

Procrastinate's tables and calls, without its worker: that one ends when the database is away, waits for all running jobs before it takes
another, and fails tasks of a name that only a newer version knows (docs/decisions/queue.md).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from procrastinate import PsycopgConnector, exceptions
from procrastinate.jobs import Job as Entry
from procrastinate.jobs import Notification, Status
from procrastinate.manager import JobManager
from psycopg_pool import PoolTimeout

from penstock.database.connect import Database
from penstock.jobs.model import JobId
from penstock.logs import get_logger
from penstock.queue.service import QUEUE_NAME, TASK_NAME, VERSION

POLL_SECONDS = 4.0  # how long an entry waits at most for a free worker that heard nothing of it
HEARTBEAT_SECONDS = 10.0
LATER_SECONDS = 60  # when an entry that only a newer version understands is offered again
_BACKOFF_SECONDS = (0.2, 10.0)
_CANCEL_SECONDS = 1.0
_OUTAGES = (exceptions.ProcrastinateException, psycopg.Error, PoolTimeout, OSError, TimeoutError)


class Payload(msgspec.Struct, frozen=True):
    job_id: JobId
    version: int


class Consumer:
    """`handle` carries one job and raises nothing; it is awaited in a task of its own, `slots` of them at once."""

    def __init__(self, database: Database, handle: Callable[[JobId], Awaitable[None]], *, slots: int) -> None:
        self._database = database
        self._handle = handle
        self._slots = slots
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()  # an entry came, a slot came free, or it is time to stop
        self._stopping = False
        self._manager: JobManager | None = None

    @property
    def running(self) -> int:
        return len(self._running)

    def stop(self) -> None:
        """Take no more entries. `run` then returns; what is running goes on."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Until `stop`. An outage ends no job: they have connections of their own."""
        pause = _BACKOFF_SECONDS[0]
        while not self._stopping:
            began = asyncio.get_running_loop().time()
            try:
                await self._connected()
            except Exception as error:  # noqa: BLE001 - a worker that takes nothing more without a word is worse than any of them
                if asyncio.get_running_loop().time() - began > _BACKOFF_SECONDS[1]:
                    pause = _BACKOFF_SECONDS[0]
                self._tell(error, pause)
                if not self._stopping:
                    self._news.clear()
                    await self._sleep(pause)
                pause = min(pause * 2, _BACKOFF_SECONDS[1])

    def _tell(self, error: Exception, pause: float) -> None:
        log = get_logger(__name__)
        if isinstance(error, _OUTAGES):
            log.warning("the queue cannot be reached; trying again", kind=_cause(error), seconds=pause, running=self.running)
        else:
            log.error("taking jobs broke; trying again", seconds=pause, running=self.running, exc_info=error)

    async def finished(self, seconds: float) -> bool:
        """Whether all that was running has ended within that time."""
        if self._running:
            await asyncio.wait(self._running, timeout=max(seconds, 0))
        return not self._running

    async def _connected(self) -> None:
        connector = self._connector()
        try:
            await connector.open_async()
            manager = JobManager(connector)
            worker_id = await manager.register_worker()
            self._manager = manager
            get_logger(__name__).debug("taking jobs from the queue", worker=worker_id, slots=self._slots)
            listener = asyncio.create_task(self._listen(manager), name="penstock-queue-listener")
            heartbeat = asyncio.create_task(self._beat(manager, worker_id), name="penstock-queue-heartbeat")
            try:
                await self._take(manager, worker_id, heartbeat)
            finally:
                await _ended(listener, heartbeat)
            await self._finish_running()
            with suppress(*_OUTAGES):
                await manager.unregister_worker(worker_id)
        finally:
            self._manager = None
            with suppress(*_OUTAGES):
                await connector.close_async()

    async def _finish_running(self) -> None:
        """Stay reachable while the last jobs end, so that they can say so; whoever called `stop` bounds it."""
        if self._running:
            await asyncio.wait(self._running)

    def _connector(self) -> PsycopgConnector:
        # Three connections: one listens, and a lost lock on one entry must not keep the heartbeat back.
        return PsycopgConnector(
            conninfo=self._database.conninfo,
            kwargs={"prepare_threshold": None, "application_name": "penstock queue"},
            min_size=1,
            max_size=2,
            timeout=self._database.connect_seconds,
            configure=self._configure,
            name="penstock-queue",
        )

    async def _configure(self, connection: psycopg.AsyncConnection[Any]) -> None:
        wanted = {
            **self._database.session_settings(),
            "search_path": "penstock, pg_temp",
            "lock_timeout": "10s",
            "statement_timeout": "30s",
        }
        for name, value in wanted.items():
            await connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        if not connection.autocommit:
            await connection.commit()

    async def _take(self, manager: JobManager, worker_id: int, heartbeat: asyncio.Task[None]) -> None:
        while not self._stopping:
            if heartbeat.done():
                heartbeat.result()  # raises what ended it
            self._news.clear()
            if len(self._running) >= self._slots:
                await self._sleep(POLL_SECONDS)
                continue
            entry = await manager.fetch_job(queues=[QUEUE_NAME], worker_id=worker_id)
            if entry is None:
                await self._sleep(POLL_SECONDS)
            else:
                await self._begin(manager, entry)

    async def _begin(self, manager: JobManager, entry: Entry) -> None:
        payload = _payload(entry)
        if payload is None or self._stopping:
            if payload is None:
                get_logger(__name__).warning("an entry of another version is left for later", task=entry.task_name, seconds=LATER_SECONDS)
            # At once is a moment long past, whatever this machine's clock says.
            later = datetime.now(UTC) + timedelta(seconds=LATER_SECONDS)
            await manager.retry_job(entry, retry_at=later if payload is None else datetime.fromtimestamp(0, UTC))
            return
        task = asyncio.create_task(self._carry(entry, payload.job_id), name=f"penstock job {payload.job_id}")
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _carry(self, entry: Entry, job_id: JobId) -> None:
        await self._handle(job_id)
        # Only tidiness: what is true of the job stands in the ledger, and a sweeper removes entries that stay.
        try:
            if self._manager is not None:
                await self._manager.finish_job(entry, status=Status.SUCCEEDED, delete_job=True)
        except _OUTAGES as error:
            get_logger(__name__).debug("an entry could not be finished", job_id=job_id, kind=_cause(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger(__name__).error("a job's task broke", task=task.get_name(), exc_info=error)

    async def _listen(self, manager: JobManager) -> None:
        """Without it entries are found by polling: what ends it is logged, and it is begun anew."""

        async def heard(*, channel: str, notification: Notification) -> None:  # noqa: ARG001 - Procrastinate's signature
            self._news.set()

        while True:
            try:
                await manager.listen_for_jobs(on_notification=heard, queues=[QUEUE_NAME])
            except _OUTAGES as error:
                get_logger(__name__).info("listening to the queue anew", kind=_cause(error))
            await asyncio.sleep(POLL_SECONDS)

    async def _beat(self, manager: JobManager, worker_id: int) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await manager.update_heartbeat(worker_id)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)


def _payload(entry: Entry) -> Payload | None:
    """None for what this version does not understand."""
    if entry.task_name != TASK_NAME:
        return None
    try:
        payload = msgspec.convert(entry.task_kwargs, Payload)
    except msgspec.ValidationError:
        return None
    return payload if 1 <= payload.version <= VERSION else None


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Cancelled until they are over: a cancellation is lost where psycopg meets a dead connection, whose error it raises in its place."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


def _cause(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
