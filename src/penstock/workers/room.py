"""Room for exports among the jobs of a worker: one place is left to imports, since an export may wait long for its turn."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.bootstrap import Application
from penstock.database.sqlstates import translated
from penstock.errors import DatabaseError
from penstock.jobs.model import JobId, JobType
from penstock.logs import get_logger


class ExportRoom:
    """Places for all but one of the worker's jobs, at least one. May be used by several threads."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._free = threading.BoundedSemaphore(max(1, application.settings.job_concurrency - 1))
        self._lock = threading.Lock()
        self._put_off: dict[JobId, None] = {}  # in the order in which they came

    @contextmanager
    def place(self, job_id: JobId) -> Iterator[bool]:
        """Whether there is a place, to be left at the end. Otherwise the job is put off: it is queued again when a place is free, and by
        the sweeper if this process dies first.
        """
        if not self._free.acquire(blocking=False):
            with self._lock:
                self._put_off[job_id] = None
            get_logger(__name__).debug("export put off: as many as this worker carries are under way")
            yield False
            return
        try:
            yield True
        finally:
            self._free.release()
            self._queue_next()

    def _queue_next(self) -> None:
        with self._lock:
            job_id = next(iter(self._put_off), None)
            if job_id is None:
                return
            del self._put_off[job_id]
        try:
            with self._application.database.connection() as connection, translated("queueing an export again"):
                self._application.queue.wake(connection, job_id, JobType.EXPORT)
        except DatabaseError as error:
            get_logger(__name__).warning("an export that was put off is left to the sweeper", code=error.code, reason=error.message)
