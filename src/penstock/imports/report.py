"""The report of a job: its rejected records, streamed from the ledger in row order, a page at a time."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
import psycopg

from penstock.formats.model import Dialect
from penstock.formats.render import record_of, rejected_writer
from penstock.imports.ledger import SQL
from penstock.jobs.model import JobId

Connection = psycopg.Connection[Any]
_PAGE, _PAGE_BYTES = 500, 8 * 1024 * 1024


def rejected(
    connection: Connection, job_id: JobId, *, limit: int | None = None
) -> Iterator[tuple[int, int | None, bytes, list[dict[str, Any]]]]:
    """row, line, the record as it stands in the file, its problems. Memory holds one page."""
    values = {"job_id": job_id, "after": 0, "limit": _PAGE if limit is None else min(_PAGE, limit), "bytes": _PAGE_BYTES}
    left = limit
    while left is None or left > 0:
        page = connection.execute(SQL["rejected_page"], values).fetchall()
        if not page:
            return
        yield from page if left is None else page[:left]
        values["after"], left = page[-1][0], None if left is None else left - len(page)


def error_records(connection: Connection, job_id: JobId, dialect: Dialect, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """One object per problem, as API.md's "Error records" has them; at most `limit` of them."""
    left = limit
    for row, line, raw, problems in rejected(connection, job_id, limit=limit):
        record = record_of(raw, dialect)
        for problem in problems:
            if left == 0:
                return
            left = None if left is None else left - 1
            yield {"row": row, "line": line, **problem, "record": record}


def write_rejected(connection: Connection, job_id: JobId, dialect: Dialect, out: BinaryIO) -> int:
    """The rejected records in the file's own format with their problems in `_errors`; how many."""
    count = 0
    with rejected_writer(dialect, out) as writer:
        for _row, _line, raw, problems in rejected(connection, job_id):
            writer.write(raw, "; ".join(f"{problem['code']}: {problem['message']}" for problem in problems))
            count += 1
    return count


def dialect_of(stored: dict[str, Any] | None) -> Dialect | None:
    return None if stored is None else msgspec.convert(stored, Dialect)
