"""What the API, the command line and the worker call to export: stream, or queue, run, look, cancel, retry."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import translated
from penstock.errors import ExportExpiredError, InvalidStateError
from penstock.exports.model import ExportWishes
from penstock.exports.producing import Export
from penstock.exports.running import Run, Surroundings
from penstock.exports.stored import options_of
from penstock.formats.model import Compression
from penstock.jobs.model import Job, JobId, JobType
from penstock.lifecycle import changing
from penstock.lifecycle.attempt import Signals
from penstock.lifecycle.claiming import Terms, claim
from penstock.lifecycle.gate import Gate
from penstock.lifecycle.lookup import JobLookup
from penstock.lifecycle.statements import SQL
from penstock.logs import get_logger, log_context
from penstock.queue import Queue
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.storage import Key, Method, SignedLink

if TYPE_CHECKING:  # obstore, which an export to a file does not need
    from penstock.storage import Storage

Connection = psycopg.Connection[Any]


class Exports(JobLookup):
    """Every method may raise the errors of `penstock.errors`. May be used by several threads."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        *,
        queue: Queue,
        storage: "Callable[[], Storage]",
        gate: Gate,
    ) -> None:
        """`gate`: the process's; exports have half of it at most, streamed and queued ones together."""
        super().__init__(database)
        self._registry = registry
        self._settings = settings
        self._queue = queue
        self._storage = storage
        self._here = Surroundings(database=database, registry=registry, settings=settings, queue=queue, storage=storage, gate=gate)

    def export(self, wishes: ExportWishes, *, counted: bool = False, coding: Compression = Compression.NONE) -> Export:
        """Not begun: enter it, take its pieces. `counted` and `coding`: see `Export`."""
        return Export(self._database, self._registry, self._settings, wishes, gate=self._here.gate, counted=counted, coding=coding)

    def create(
        self,
        wishes: ExportWishes,
        *,
        request_id: str | None = None,
        principal: str = "anonymous",
        within: Callable[[Connection, JobId], None] | None = None,
    ) -> Job:
        """A new PENDING job, for which a worker is woken in the same transaction. `within` runs in it too, after the job is in it; what it
        raises comes out, and there is no job.
        """
        job_id = JobId(str(uuid.uuid4()))
        values = {
            "job_id": job_id,
            "type": JobType.EXPORT,
            "resource": wishes.resource,
            "options": jsonb(options_of(wishes)),
            "reading": jsonb({}),
            "source": jsonb({"name": self.export(wishes).name}),
            "fingerprint": "",
            "request_id": request_id,
            "total_bytes": 0,
            "warnings": jsonb([]),
            "principal": principal,
            "queued": True,
        }
        with self._session() as connection:
            connection.execute(SQL["create_job"], values)
            if within is not None:
                within(connection, job_id)
            self._queue.wake(connection, job_id, JobType.EXPORT)
        reach(CrashPoint.JOB_CREATED)
        return self.get(job_id)

    def run(
        self,
        job_id: JobId,
        *,
        cancel: threading.Event,
        handover: threading.Event | None = None,
        patient: bool = False,
        max_attempts: int | None = None,
    ) -> Job:
        """Claim the job and carry it to its end; returns the finished job (COMPLETED, FAILED or CANCELLED).

        While another attempt may still live: waits for its lease to end if `patient`. Raises InvalidStateError if it lives on, or the job
        has ended; CancelledError if `cancel` is set meanwhile; LeaseLostError if another attempt takes over. Once `handover` is set it
        stops at once, removes what it wrote, wakes another worker and raises HandedOverError. A job that had `max_attempts` is FAILED
        instead of claimed.
        """
        job = self.get(job_id, type=JobType.EXPORT)
        terms = Terms(
            lease_seconds=self._settings.import_job_lease_seconds,
            file_hours=self._settings.file_retention_hours,
            patient=patient,
            max_attempts=max_attempts,
        )
        with log_context(job_id=job.job_id, request_id=job.request_id):
            with self._database.connect(autocommit=True) as connection, translated("claiming the job"):
                claimed = claim(connection, job.job_id, terms, cancel=cancel)
            if claimed is not None:
                reach(CrashPoint.JOB_CLAIMED)
                log = get_logger(__name__).bind(epoch=claimed.epoch, attempts=claimed.attempts)
                log.debug("attempt started") if claimed.epoch == 1 else log.info("job taken over")
                if claimed.cancel_requested:
                    cancel.set()
                signals = Signals(cancel=cancel, handover=handover or threading.Event(), lost=threading.Event())
                Run(self._here, claimed, signals).run()
        return self.get(job.job_id)

    def cancel(self, job_id: JobId) -> Job:
        """It stops within about a second; a job that nobody works on is cancelled at once. Raises InvalidStateError once it is finished."""
        with self._session() as connection:
            changing.cancel(connection, job_id, JobType.EXPORT, file_hours=self._settings.file_retention_hours)
        return self.get(job_id)

    def retry(self, job_id: JobId) -> Job:
        """A FAILED or CANCELLED job is done anew, of what is stored then. Raises InvalidStateError for others."""
        with self._session() as connection:
            changing.retry(connection, job_id, JobType.EXPORT, self._queue)
        return self.get(job_id)

    def link(self, job: Job) -> SignedLink:
        """To the file of a completed export, made anew: for LINK_SECONDS, but no longer than the file is kept.

        Raises InvalidStateError unless it is COMPLETED, ExportExpiredError when the file is past its time, StorageError.
        """
        if job.file is None:
            raise InvalidStateError(
                f"The export is {job.status}; only one that is COMPLETED has a file.", job_id=job.job_id, status=job.status
            )
        left = job.file.expires_at - datetime.now(UTC)
        if left <= timedelta(0):
            raise ExportExpiredError(
                "The file of this export was removed after its time. Export again.", job_id=job.job_id, expired_at=job.file.expires_at
            )
        expires = min(left, timedelta(seconds=self._settings.link_seconds))
        return self._storage().sign(Method.GET, Key(job.file.key), expires, filename=job.source_name)
