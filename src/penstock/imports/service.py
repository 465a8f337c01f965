"""What the CLI, the API and the worker call to import: create, run, resume, cancel, look, report."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import translated
from penstock.errors import FileFaultError, InvalidOptionError, InvalidSourceError, InvalidStateError, JobNotFoundError, LeaseLostError
from penstock.formats import open_reader
from penstock.formats.model import ReadOptions
from penstock.imports import report, view
from penstock.imports.attempt import Heartbeat, claim, is_owned
from penstock.imports.ledger import SQL, Ledger
from penstock.imports.recovery import Standing, through_outages
from penstock.imports.street import Progress, Street, Surroundings, default_partitions
from penstock.jobs.model import Epoch, ImportOptions, Job, JobId, JobStatus, Mode
from penstock.logs import get_logger, log_context
from penstock.resources.checks import CheckOptions
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.sources import Source, open_source

__all__ = ["Imports", "Progress"]

_SHOWN_ERRORS = 100


class Imports:
    """Every method may raise the errors of `penstock.errors`. May be used by several threads."""

    def __init__(self, database: Database, registry: Registry, settings: Settings, *, partitions: int | None = None) -> None:
        self._database = database
        self._registry = registry
        self._settings = settings
        self._here = Surroundings(database, registry, partitions or default_partitions(settings.import_workers))

    def create(self, resource: str, path: str, *, read: ReadOptions, options: ImportOptions, request_id: str | None = None) -> Job:
        """A new PENDING job for a file that this process can read."""
        self._check(resource, options)
        source = open_source(path)
        self._check_reading(resource, source, read, options)
        job_id = JobId(str(uuid.uuid4()))
        values = self._wishes(resource, source, read, options)
        with self._session() as connection:
            values |= {
                "job_id": job_id,
                "source": jsonb(_source_row(path, source, values["fingerprint"])),
                "request_id": request_id,
                "total_bytes": source.size,
                "warnings": jsonb(_sameness(connection, values)),
            }
            connection.execute(SQL["create_job"], values)
        reach(CrashPoint.JOB_CREATED)
        return self.get(job_id)

    def unfinished(self, resource: str, path: str, *, read: ReadOptions, options: ImportOptions) -> Job | None:
        """The newest job of the same bytes, resource and options that was interrupted or cancelled, to go on with."""
        values = self._wishes(resource, open_source(path), read, options)
        with self._session() as connection:
            row = connection.execute(SQL["unfinished_job"], values).fetchone()
        return None if row is None else self.get(JobId(str(row[0])))

    def run(
        self,
        job_id: JobId,
        *,
        progress: Callable[[Progress], None],
        cancel: threading.Event,
        waiting: Callable[[float], None] | None = None,
    ) -> Job:
        """Claim the job and carry it to its end; returns the finished job (COMPLETED, FAILED or CANCELLED).

        While another attempt may still live, waits for its lease to end and calls `waiting` with the seconds left; raises
        InvalidStateError if it lives on, CancelledError if `cancel` is set while it waits, LeaseLostError if another attempt takes over.
        """
        lease = self._settings.import_job_lease_seconds
        self._registry.get(self.get(job_id).resource)  # what is not there any more is told before the job is touched
        with self._database.connect(autocommit=True) as connection, translated("claiming the job"):
            claimed = claim(connection, job_id, lease_seconds=lease, cancel=cancel, waiting=waiting)
        if claimed is None:
            return self.get(job_id)
        reach(CrashPoint.JOB_CLAIMED)
        if claimed.cancel_requested:
            cancel.set()
        heart = Heartbeat(self._connect, Ledger(job_id, claimed.epoch), lease_seconds=lease, cancel=cancel)
        with log_context(job_id=job_id), heart.beating():
            get_logger(__name__).debug("attempt started", epoch=claimed.epoch, attempts=claimed.attempts)

            def work(cautious: bool) -> None:
                Street(self._here, claimed, progress=progress, cancel=cancel, lost=heart.lost, cautious=cautious).run()

            through_outages(work, lambda: self._standing(job_id, claimed.epoch))
        return self.get(job_id)

    def reopen(self, job_id: JobId) -> Job:
        """Make a FAILED or CANCELLED job PENDING, to go on where it stopped. Raises InvalidStateError for others."""
        with self._session() as connection:
            status = _locked_status(connection, job_id)
            if status not in (JobStatus.FAILED, JobStatus.CANCELLED):
                raise InvalidStateError(f"Only a failed or cancelled job can go on; this one is {status}.", job_id=job_id, status=status)
            connection.execute(SQL["reopen_job"], {"job_id": job_id})
        return self.get(job_id)

    def cancel(self, job_id: JobId) -> Job:
        """Stop after the waves in flight; a job that nobody works on is cancelled at once. Raises InvalidStateError once it is finished."""
        with self._session() as connection:
            status = _locked_status(connection, job_id)
            if status.finished:
                raise InvalidStateError(f"The job is {status} already.", job_id=job_id, status=status)
            connection.execute(SQL["request_cancel"], {"job_id": job_id})
            if not _owned(connection, job_id):
                # The fence goes up first: an attempt that was only paused must not write into closed books.
                connection.execute(SQL["raise_fence"], {"job_id": job_id})
                unknown = dict.fromkeys(("failure", "total_rows", "warnings", "error_summary"))
                connection.execute(SQL["close_books"], {"job_id": job_id, "status": JobStatus.CANCELLED, **unknown})
        return self.get(job_id)

    def get(self, job_id: JobId) -> Job:
        """The job with its first errors. `job_id` may be the first characters of an id, if no other begins so."""
        with self._session() as connection:
            return self._load(connection, self._full_id(connection, job_id))

    def list(
        self, *, status: str | None = None, resource: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Newest first, without their errors, and the cursor of the next page."""
        before, before_id = _decoded(cursor)
        values = {"status": status, "resource": resource, "limit": limit + 1, "before": before, "before_id": before_id}
        with self._session() as connection, connection.cursor(row_factory=dict_row) as rows:
            jobs = [view.job_of(row, []) for row in rows.execute(SQL["list_jobs"], values)]
        more = len(jobs) > limit
        return jobs[:limit], _encoded(jobs[limit - 1]) if more else None

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        """Every error record, in row order, streamed."""
        with self._session() as connection:
            job_id, dialect = self._reported(connection, job_id)
            if dialect is not None:
                yield from report.error_records(connection, job_id, dialect)

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        """The rejected records in the file's own format, with their problems in `_errors`; how many."""
        with self._session() as connection:
            job_id, dialect = self._reported(connection, job_id)
            return 0 if dialect is None else report.write_rejected(connection, job_id, dialect, out)

    def count(self, resource: str) -> int:
        """How many rows the table of the resource holds."""
        table = sql.Identifier(self._registry.get(resource).table)
        with self._session() as connection:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        return int(row[0]) if row else 0

    def _standing(self, job_id: JobId, epoch: Epoch) -> Standing:
        with self._database.connect(autocommit=True) as connection, translated("reading the ledger"):
            row = connection.execute(SQL["standing"], {"job_id": job_id, "epoch": epoch}).fetchone()
        if row is None:
            raise LeaseLostError("Another attempt has taken over this job.", job_id=job_id)
        return Standing(*row)

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        with self._database.connection() as connection, translated("using the ledger"):
            yield connection

    def _connect(self) -> psycopg.Connection[Any]:
        return self._database.connect(autocommit=True)

    def _check(self, resource: str, options: ImportOptions) -> None:
        self._registry.get(resource)
        CheckOptions(timezone=options.timezone, datetime_format=options.datetime_format)
        if options.max_errors is not None and options.max_errors < 0:
            raise InvalidOptionError("max_errors must be 0 or more.", max_errors=options.max_errors)

    def _check_reading(self, resource: str, source: Source, read: ReadOptions, options: ImportOptions) -> None:
        """Options that can never work are told at once, without a job; what is wrong with the file is told by its job."""
        with suppress(FileFaultError):
            open_reader(source, self._registry.get(resource), read, partial=options.mode is Mode.UPDATE)

    def _wishes(self, resource: str, source: Source, read: ReadOptions, options: ImportOptions) -> dict[str, Any]:
        read = msgspec.structs.replace(read, chunk_bytes=self._settings.import_chunk_size, max_record_bytes=self._settings.max_record_bytes)
        return {
            "resource": resource,
            "options": jsonb(msgspec.to_builtins(options)),
            "reading": jsonb(msgspec.to_builtins(read)),
            "fingerprint": source.fingerprint(),
        }

    def _full_id(self, connection: psycopg.Connection[Any], given: str) -> JobId:
        found = [str(row[0]) for row in connection.execute(SQL["find_jobs"], view.id_range(given))]
        if not found:
            raise JobNotFoundError(f"There is no job {given}.", job_id=given)
        if len(found) > 1:
            raise JobNotFoundError(f"Several jobs begin with {given}: give more of the id.", job_id=given)
        return JobId(found[0])

    def _load(self, connection: psycopg.Connection[Any], job_id: JobId) -> Job:
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(SQL["get_job"], {"job_id": job_id}).fetchone()
        assert row is not None
        dialect = report.dialect_of(row["dialect"])
        errors = [] if dialect is None else [*report.error_records(connection, job_id, dialect, limit=_SHOWN_ERRORS)]
        return view.job_of(row, errors)

    def _reported(self, connection: psycopg.Connection[Any], given: str) -> tuple[JobId, Any]:
        job_id = self._full_id(connection, given)
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(SQL["get_job"], {"job_id": job_id}).fetchone()
        assert row is not None
        return job_id, report.dialect_of(row["dialect"])


def _source_row(path: str, source: Source, fingerprint: str) -> dict[str, Any]:
    try:
        path.encode()
    except UnicodeEncodeError as fault:
        raise InvalidSourceError("The file's name is not valid UTF-8, so the job cannot note it: rename the file.") from fault
    return {"path": str(Path(path).absolute()), "name": source.name, "size": source.size, "fingerprint": fingerprint}


def _sameness(connection: psycopg.Connection[Any], wishes: dict[str, Any]) -> list[str]:
    row = connection.execute(SQL["same_bytes"], wishes).fetchone()
    return [] if row is None else [f"Job {row[0]} imported the same bytes before, finished {row[1]:%Y-%m-%d %H:%M:%S}Z."]


def _locked_status(connection: psycopg.Connection[Any], job_id: JobId) -> JobStatus:
    row = connection.execute(SQL["lock_job"], {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(f"There is no job {job_id}.", job_id=job_id)
    return JobStatus(row[0])


def _owned(connection: psycopg.Connection[Any], job_id: JobId) -> bool:
    with connection.cursor(row_factory=dict_row) as cursor:
        last = cursor.execute(SQL["last_attempt"], {"job_id": job_id}).fetchone()
    return is_owned(last)


def _encoded(job: Job) -> str:
    return f"{job.created_at.isoformat()}/{job.job_id}"


def _decoded(cursor: str | None) -> tuple[datetime | None, str | None]:
    if cursor is None:
        return None, None
    try:
        stamp, _, job_id = cursor.partition("/")
        return datetime.fromisoformat(stamp), str(uuid.UUID(job_id))
    except ValueError:
        raise InvalidOptionError("The cursor is not one that a list of jobs gave.", cursor=cursor) from None
