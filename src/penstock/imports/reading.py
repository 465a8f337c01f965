"""Looking at imports: their errors, their rejected records. Nothing here changes anything."""

import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

import psycopg
from psycopg import sql

from penstock.database.connect import Database
from penstock.formats.model import Dialect
from penstock.formats.render import rejected_writer
from penstock.imports import report
from penstock.jobs.model import JobId
from penstock.lifecycle.lookup import JobLookup, full_id, job_row
from penstock.resources.registry import Registry

_SHOWN_ERRORS = 100


class JobReader(JobLookup):
    """Every method may raise DatabaseError. Long reports take a connection for each page, never for as long as somebody reads."""

    def __init__(self, database: Database, registry: Registry) -> None:
        super().__init__(database)
        self._registry = registry

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
            job_id = full_id(connection, given)
            return job_id, report.dialect_of(job_row(connection, job_id)["dialect"])

    def _errors_of(self, connection: psycopg.Connection[Any], row: Mapping[str, Any]) -> list[dict[str, Any]]:
        dialect = report.dialect_of(row["dialect"])
        return [] if dialect is None else report.first_errors(connection, row["job_id"], dialect, _SHOWN_ERRORS)


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
