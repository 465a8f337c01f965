"""Jobs as they change: one hub looks at all that are watched, with one query, and hands each listener the newest state."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from penstock.errors import JobNotFoundError, OverloadedError, PenstockError
from penstock.jobs.model import Job, JobId
from penstock.logs import get_logger

LOOK_SECONDS = 0.5
COMMENT_SECONDS = 15.0
MOST_LISTENERS = 1000
_PATIENCE_SECONDS = 5.0  # between looks while the database is away


class Listener:
    """Holds the newest state of a job until its listener takes it: one that reads slowly misses states between, never the last."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._latest: Job | None = None
        self.over = False

    def tell(self, job: Job) -> None:
        self._latest = job
        self._news.set()

    def end(self) -> None:
        """No more will come: the process stops, or the job is gone."""
        self.over = True
        self._news.set()

    async def next(self, seconds: float) -> Job | None:
        """The newest state, or None after `seconds` without one or when it is over."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return None
        self._news.clear()
        latest, self._latest = self._latest, None
        return latest


class Hub:
    """`changes` and `get` are those of Imports; they are called in threads. All else happens on the event loop."""

    def __init__(
        self,
        changes: Callable[[Collection[JobId]], dict[JobId, datetime]],
        get: Callable[[JobId], Job],
        *,
        stopping: asyncio.Event,
        most_listeners: int = MOST_LISTENERS,
    ) -> None:
        self._changes, self._get = changes, get
        self._stopping = stopping
        self._most_listeners = most_listeners
        self._listeners: dict[JobId, set[Listener]] = {}
        self._seen: dict[JobId, datetime] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def listening(self) -> int:
        return sum(len(listeners) for listeners in self._listeners.values())

    @asynccontextmanager
    async def listener(self, job: Job) -> AsyncIterator[Listener]:
        """States of the job after this one. Raises OverloadedError when there are too many listeners."""
        self.check_room()
        listener = Listener()
        self._listeners.setdefault(job.job_id, set()).add(listener)
        # What the first listener has not seen is news; later ones may get a state twice, which does no harm.
        self._seen[job.job_id] = min(job.updated_at, self._seen.get(job.job_id, job.updated_at))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on(), name="job-events")
        try:
            yield listener
        finally:
            listeners = self._listeners[job.job_id]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[job.job_id], self._seen[job.job_id]

    def check_room(self) -> None:
        """Raises OverloadedError."""
        if self._stopping.is_set() or self.listening >= self._most_listeners:
            raise OverloadedError(f"{self._most_listeners} clients follow jobs already, which is the limit. Ask for the job instead.")

    async def _look_on(self) -> None:
        """Until nobody listens or the process stops. Whatever happens, no listener is left waiting for a hub that is gone."""
        try:
            while self._listeners and not self._stopping.is_set():
                await self._unless_stopping(self._look_and_pause())
        except Exception:  # noqa: BLE001 - told to the log; the listeners are let go below
            get_logger(__name__).exception("the job events broke off")
        finally:
            for listener in {each for listeners in self._listeners.values() for each in listeners}:
                listener.end()

    async def _unless_stopping(self, work: Coroutine[Any, Any, None]) -> None:
        """A look can hang as long as the database does; a stop does not wait for it."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            stopping.cancel()

    async def _look_and_pause(self) -> None:
        await asyncio.sleep(await self._look_once())

    async def _look_once(self) -> float:
        """Tell what has changed; the seconds until the next look."""
        try:
            found = await asyncio.to_thread(self._changes, list(self._listeners))
            for job_id in [each for each in self._listeners if each not in found]:
                self._end(job_id)
            for job_id in [each for each, when in found.items() if when != self._seen.get(each)]:
                await self._tell(job_id)
        except PenstockError as error:
            get_logger(__name__).warning("cannot look at the jobs that are followed", code=error.code)
            return _PATIENCE_SECONDS
        return LOOK_SECONDS

    async def _tell(self, job_id: JobId) -> None:
        try:
            job = await asyncio.to_thread(self._get, job_id)
        except JobNotFoundError:
            self._end(job_id)
            return
        if job_id in self._seen:  # else the last listener has left meanwhile
            self._seen[job_id] = job.updated_at
        for listener in self._listeners.get(job_id, ()):
            listener.tell(job)

    def _end(self, job_id: JobId) -> None:
        for listener in self._listeners.get(job_id, ()):
            listener.end()
