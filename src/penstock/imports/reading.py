"""Looking at jobs: one, many, their errors, their rejected records. Nothing here changes anything."""

import io
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from penstock.database.connect import Database
from penstock.database.sqlstates import translated
from penstock.errors import InvalidOptionError, JobNotFoundError
from penstock.formats.model import Dialect
from penstock.formats.render import rejected_writer
from penstock.imports import report, view
from penstock.imports.ledger import SQL
from penstock.jobs.model import Job, JobId
from penstock.resources.registry import Registry

_SHOWN_ERRORS = 100


class JobReader:
    """Every method may raise DatabaseError. Long reports take a connection for each page, never for as long as somebody reads."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry

    def get(self, job_id: JobId) -> Job:
        """The job with its first errors. `job_id` may be the first characters of an id, if no other begins so."""
        with self._session() as connection:
            row = _row(connection, _full_id(connection, job_id))
            dialect = report.dialect_of(row["dialect"])
            return view.job_of(row, [] if dialect is None else report.first_errors(connection, row["job_id"], dialect, _SHOWN_ERRORS))

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

    def changes(self, job_ids: Collection[JobId]) -> dict[JobId, datetime]:
        """When each of the jobs changed last; those that do not exist are left out. Full ids only."""
        with self._session() as connection:
            rows = connection.execute(SQL["changes"], {"job_ids": [str(job_id) for job_id in job_ids]}).fetchall()
        return {JobId(str(job_id)): changed_at for job_id, changed_at in rows}

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        """Every error record, in row order. What is wrong with the id is raised at once, not at the first record."""
        full_id, dialect = self._reported(job_id)
        return iter(()) if dialect is None else self._errors(full_id, dialect)

    def rejected(self, job_id: JobId) -> Iterator[bytes]:
        """The rejected records in the file's own format, with their problems in `_errors`, in blocks of at most some MiB."""
        full_id, dialect = self._reported(job_id)
        return iter(()) if dialect is None else self._rejected(full_id, dialect)

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        """The same into a file; how many records."""
        full_id, dialect = self._reported(job_id)
        if dialect is None:
            return 0
        count = 0
        with rejected_writer(dialect, out) as writer:
            for page in self._pages(full_id):
                report.write_page(writer, page)
                count += len(page)
        return count

    def count(self, resource: str) -> int:
        """How many rows the table of the resource holds."""
        table = sql.Identifier(self._registry.get(resource).table)
        with self._session() as connection:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        return int(row[0]) if row else 0

    def _errors(self, job_id: JobId, dialect: Dialect) -> Iterator[dict[str, Any]]:
        for page in self._pages(job_id):
            yield from report.error_records(page, dialect)

    def _rejected(self, job_id: JobId, dialect: Dialect) -> Iterator[bytes]:
        drain = _Drain()
        with rejected_writer(dialect, cast("BinaryIO", drain)) as writer:
            for page in self._pages(job_id):
                report.write_page(writer, page)
                if block := drain.taken():
                    yield block
        if block := drain.taken():
            yield block

    def _pages(self, job_id: JobId) -> Iterator[report.Page]:
        after = 0
        while True:
            with self._session() as connection:
                page = report.page(connection, job_id, after)
            if not page:
                return
            yield page
            after = page[-1].row

    def _reported(self, given: str) -> tuple[JobId, Dialect | None]:
        with self._session() as connection:
            job_id = _full_id(connection, given)
            return job_id, report.dialect_of(_row(connection, job_id)["dialect"])

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        with self._database.connection() as connection, translated("using the ledger"):
            yield connection


class _Drain(io.RawIOBase):
    """Takes what a writer writes, until it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, block: Any, /) -> int:
        size = len(block)
        self._held += block
        self._position += size
        return size

    def tell(self) -> int:
        return self._position

    def taken(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


def _row(connection: psycopg.Connection[Any], job_id: JobId) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(SQL["get_job"], {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(f"There is no job {job_id}.", job_id=job_id)
    return row


def _full_id(connection: psycopg.Connection[Any], given: str) -> JobId:
    found = [str(row[0]) for row in connection.execute(SQL["find_jobs"], view.id_range(given))]
    if not found:
        raise JobNotFoundError(f"There is no job {given}.", job_id=given)
    if len(found) > 1:
        raise JobNotFoundError(f"Several jobs begin with {given}: give more of the id.", job_id=given)
    return JobId(found[0])


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
