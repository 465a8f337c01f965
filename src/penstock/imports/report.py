"""The report of a job: its rejected records from the ledger, in row order, a page at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import psycopg

from penstock.formats.model import Dialect
from penstock.formats.render import RejectedWriter, record_of
from penstock.imports.ledger import SQL
from penstock.jobs.model import JobId

Connection = psycopg.Connection[Any]
_PAGE, _PAGE_BYTES = 500, 8 * 1024 * 1024


class RejectedRow(NamedTuple):
    row: int
    line: int | None
    raw: bytes  # the record as it stands in the file
    problems: list[dict[str, Any]]


Page = list[RejectedRow]


def page(connection: Connection, job_id: JobId, after: int, limit: int | None = None) -> Page:
    """What follows the row `after`; empty at the end. Bounded in records and in bytes."""
    values = {"job_id": job_id, "after": after, "limit": min(_PAGE, limit or _PAGE), "bytes": _PAGE_BYTES}
    return [RejectedRow(*found) for found in connection.execute(SQL["rejected_page"], values)]


def error_records(rows: Iterable[RejectedRow], dialect: Dialect) -> Iterator[dict[str, Any]]:
    """One object per problem, as API.md's "Error records" has them."""
    for row, line, raw, problems in rows:
        record = record_of(raw, dialect)
        for problem in problems:
            yield {"row": row, "line": line, **problem, "record": record}


def first_errors(connection: Connection, job_id: JobId, dialect: Dialect, limit: int) -> list[dict[str, Any]]:
    """At most `limit` of them, and at most a page's bytes."""
    return [*islice(error_records(page(connection, job_id, 0, limit), dialect), limit)]


def write_page(writer: RejectedWriter, rows: Iterable[RejectedRow]) -> None:
    """Records in the file's own format with their problems in `_errors`."""
    for rejected in rows:
        writer.write(rejected.raw, "; ".join(f"{problem['code']}: {problem['message']}" for problem in rejected.problems))


def dialect_of(stored: dict[str, Any] | None) -> Dialect | None:
    return None if stored is None else msgspec.convert(stored, Dialect)
