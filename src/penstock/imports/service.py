"""What the CLI, the API and the worker call to import: create, run, resume, retry, cancel; and, from `reading`, look and report."""

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import translated
from penstock.errors import (
    FileFaultError,
    HandedOverError,
    InvalidOptionError,
    LeaseLostError,
    PenstockError,
)
from penstock.formats import open_reader
from penstock.formats.model import ReadOptions
from penstock.imports.ledger import SQL, Ledger
from penstock.imports.origin import local_place, same_bytes, source_row, unfetched_row
from penstock.imports.reading import JobReader
from penstock.imports.recovery import Standing, through_outages
from penstock.imports.street import Street
from penstock.imports.surroundings import Progress, Surroundings, default_partitions
from penstock.jobs.model import Epoch, ImportOptions, Job, JobId, JobType, Mode
from penstock.lifecycle import changing
from penstock.lifecycle.attempt import Heartbeat, Signals, leave
from penstock.lifecycle.claiming import Claim, Terms, claim
from penstock.lifecycle.gate import Gate
from penstock.lifecycle.statements import SQL as JOBS
from penstock.logs import get_logger, log_context
from penstock.queue import Queue
from penstock.resources.checks import CheckOptions
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.sources import Source, Sources
from penstock.sources.places import Place, RemoteUrl

__all__ = ["Imports", "Progress"]

Connection = psycopg.Connection[Any]


class Imports(JobReader):
    """Every method may raise the errors of `penstock.errors`. May be used by several threads."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        *,
        sources: Sources,
        queue: Queue,
        partitions: int | None = None,
        gate: Gate | None = None,
    ) -> None:
        super().__init__(database, registry)
        self._settings = settings
        self._sources = sources
        self._queue = queue
        self._here = Surroundings(
            database=database,
            registry=registry,
            settings=settings,
            sources=sources,
            queue=queue,
            partitions=partitions or default_partitions(settings.import_workers),
            gate=gate,
        )

    def for_worker(self, gate: Gate) -> "Imports":
        """The same for a process that runs several jobs at once: all its pieces of work in the database go through `gate`."""
        partitions = min(self._here.partitions, max(1, gate.permits // self._settings.job_concurrency))
        return Imports(
            self._database,
            self._registry,
            self._settings,
            sources=self._sources,
            queue=self._queue,
            partitions=partitions,
            gate=gate,
        )

    def create(
        self,
        resource: str,
        place: Place | str,
        *,
        read: ReadOptions,
        options: ImportOptions,
        request_id: str | None = None,
        principal: str = "anonymous",
        queued: bool = False,
        within: Callable[[Connection, JobId], None] | None = None,
    ) -> Job:
        """A new PENDING job. `place` as text is a file that this process can read.

        `queued`: a worker is woken in the same transaction. `within` runs in that transaction too, after the job is in it; what it raises
        comes out, and there is no job.
        """
        self._check(resource, options)
        place = local_place(place) if isinstance(place, str) else place
        row = self._seen(resource, place, read, options)
        job_id = JobId(str(uuid.uuid4()))
        values = self._wishes(resource, row["fingerprint"], read, options)
        values |= {"job_id": job_id, "source": jsonb(row), "request_id": request_id, "total_bytes": row["size"]}
        values |= {"principal": principal, "queued": queued}
        with self._session() as connection:
            warnings = same_bytes(connection, values) if row["fingerprint"] else []
            connection.execute(JOBS["create_job"], values | {"type": JobType.IMPORT, "warnings": jsonb(warnings)})
            if within is not None:
                within(connection, job_id)
            if queued:
                self._queue.wake(connection, job_id, JobType.IMPORT)
        reach(CrashPoint.JOB_CREATED)
        return self.get(job_id)

    def unfinished(self, resource: str, path: str, *, read: ReadOptions, options: ImportOptions) -> Job | None:
        """The newest job of the same bytes, resource and options that was interrupted or cancelled, to go on with; no queued one."""
        fingerprint = self._sources.open(local_place(path)).fingerprint()
        with self._session() as connection:
            row = connection.execute(SQL["unfinished_job"], self._wishes(resource, fingerprint, read, options)).fetchone()
        return None if row is None else self.get(JobId(str(row[0])))

    def run(
        self,
        job_id: JobId,
        *,
        progress: Callable[[Progress], None],
        cancel: threading.Event,
        waiting: Callable[[float], None] | None = None,
        handover: threading.Event | None = None,
        patient: bool = True,
        max_attempts: int | None = None,
    ) -> Job:
        """Claim the job and carry it to its end; returns the finished job (COMPLETED, FAILED or CANCELLED).

        While another attempt may still live, waits for its lease to end and calls `waiting` with the seconds left; raises
        InvalidStateError if it lives on (at once unless `patient`), CancelledError if `cancel` is set meanwhile, LeaseLostError if another
        attempt takes over. Once `handover` is set it stops after the wave in flight, wakes another worker and raises HandedOverError. A job
        that had `max_attempts` is FAILED instead of claimed.
        """
        job = self.get(job_id)
        self._registry.get(job.resource)  # what is not there any more is told before the job is touched
        terms = self._terms(patient=patient, max_attempts=max_attempts)
        with log_context(job_id=job.job_id, request_id=job.request_id):
            with self._database.connect(autocommit=True) as connection, translated("claiming the job"):
                claimed = claim(connection, job.job_id, terms, cancel=cancel, waiting=waiting)
            if claimed is not None:
                reach(CrashPoint.JOB_CLAIMED)
                if claimed.cancel_requested:
                    cancel.set()
                signals = Signals(cancel=cancel, handover=handover or threading.Event(), lost=threading.Event())
                self._attempt(claimed, progress, signals)
        return self.get(job.job_id)

    def _attempt(self, claimed: Claim, progress: Callable[[Progress], None], signals: Signals) -> None:
        ledger = Ledger(claimed.job_id, claimed.epoch)
        lease = self._settings.import_job_lease_seconds
        heart = Heartbeat(self._connect, ledger, lease_seconds=lease, cancel=signals.cancel, lost=signals.lost)
        log = get_logger(__name__).bind(epoch=claimed.epoch, attempts=claimed.attempts)
        if claimed.epoch == 1:
            log.debug("attempt started")
        else:
            log.info("job taken over")

        def work(cautious: bool) -> None:
            Street(self._here, claimed, progress=progress, signals=signals, cautious=cautious).run()

        try:
            with heart.beating():
                through_outages(work, lambda: self._standing(claimed.job_id, claimed.epoch))
        except (HandedOverError, LeaseLostError):  # the attempt has ended already
            raise
        except PenstockError as error:
            leave(self._connect, ledger, error)
            raise

    def reopen(self, job_id: JobId) -> Job:
        """Make a FAILED or CANCELLED job PENDING, to go on where it stopped. Raises InvalidStateError for others."""
        with self._session() as connection:
            changing.reopen(connection, job_id, JobType.IMPORT)
        return self.get(job_id)

    def retry(self, job_id: JobId) -> Job:
        """The same, and a worker is woken for it. The attempts so far do not count any more."""
        with self._session() as connection:
            changing.retry(connection, job_id, JobType.IMPORT, self._queue)
        return self.get(job_id)

    def cancel(self, job_id: JobId) -> Job:
        """Stop after the waves in flight; a job that nobody works on is cancelled at once. Raises InvalidStateError once it is finished."""
        with self._session() as connection:
            changing.cancel(connection, job_id, JobType.IMPORT, file_hours=self._settings.file_retention_hours)
        return self.get(job_id)

    def _terms(self, *, patient: bool, max_attempts: int | None) -> Terms:
        return Terms(
            lease_seconds=self._settings.import_job_lease_seconds,
            file_hours=self._settings.file_retention_hours,
            patient=patient,
            max_attempts=max_attempts,
        )

    def _standing(self, job_id: JobId, epoch: Epoch) -> Standing:
        with self._database.connect(autocommit=True) as connection, translated("reading the ledger"):
            row = connection.execute(SQL["standing"], {"job_id": job_id, "epoch": epoch}).fetchone()
        if row is None:
            raise LeaseLostError("Another attempt has taken over this job.", job_id=job_id)
        return Standing(*row)

    def _connect(self) -> Connection:
        return self._database.connect(autocommit=True)

    def _check(self, resource: str, options: ImportOptions) -> None:
        self._registry.get(resource)
        CheckOptions(timezone=options.timezone, datetime_format=options.datetime_format)
        if options.max_errors is not None and options.max_errors < 0:
            raise InvalidOptionError("max_errors must be 0 or more.", max_errors=options.max_errors)

    def _seen(self, resource: str, place: Place, read: ReadOptions, options: ImportOptions) -> dict[str, Any]:
        """The source's row. A file behind a URL is seen by the attempt that fetches it."""
        if isinstance(place, RemoteUrl):
            return unfetched_row(place)
        source = self._sources.open(place)
        self._check_reading(resource, source, read, options)
        return source_row(place, source, source.fingerprint())

    def _check_reading(self, resource: str, source: Source, read: ReadOptions, options: ImportOptions) -> None:
        """Options that can never work are told at once, without a job; what is wrong with the file is told by its job."""
        with suppress(FileFaultError):
            open_reader(source, self._registry.get(resource), read, partial=options.mode is Mode.UPDATE)

    def _wishes(self, resource: str, fingerprint: str, read: ReadOptions, options: ImportOptions) -> dict[str, Any]:
        read = msgspec.structs.replace(read, chunk_bytes=self._settings.import_chunk_size, max_record_bytes=self._settings.max_record_bytes)
        return {
            "resource": resource,
            "options": jsonb(msgspec.to_builtins(options)),
            "reading": jsonb(msgspec.to_builtins(read)),
            "fingerprint": fingerprint,
        }
