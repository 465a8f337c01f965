"""Rejected records: from problems to what the ledger keeps of them, and to the summary that people read first."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import polars as pl
import psycopg

from penstock.database.jsonb import storable
from penstock.formats.model import RawRecord
from penstock.imports.ledger import SQL
from penstock.jobs.model import JobId
from penstock.resources.model import Resource
from penstock.resources.problems import Problem, render

FIRST_ROWS = 5  # how many row numbers a line of the summary shows

Rendered = dict[int, list[dict[str, Any]]]  # row -> its problems, as error records without row, line and record


def rendered(problems: Iterable[Problem], resource: Resource) -> Rendered:
    """By row, each problem with type, code, field, value and message."""
    by_row: Rendered = defaultdict(list)
    for problem in problems:
        columns = {"kind": problem.kind, "field": problem.field, "value": problem.value, "detail": problem.detail}
        by_row[problem.row].append(render(columns, resource))
    return by_row


def of_frame(problems: pl.DataFrame) -> Iterable[Problem]:
    """Rows of `PROBLEM_COLUMNS` as problems."""
    return (Problem(*values) for values in problems.iter_rows())


def write(cursor: psycopg.Cursor[Any], job_id: JobId, rejected: Rendered, raw: Iterable[RawRecord]) -> None:
    """Put the records on file. `raw` holds every row of `rejected`."""
    with cursor.copy(SQL["copy_rejected"]) as copy:
        for record in raw:
            copy.write_row((job_id, record.row, record.line, record.raw, _encoded(rejected[record.row])))


def _encoded(problems: list[dict[str, Any]]) -> str:
    text = msgspec.json.encode(problems).decode()
    return msgspec.json.encode(storable(problems)).decode() if "\\u0000" in text else text


def summary(rejected: Rendered) -> list[dict[str, Any]]:
    """One line per type, code and field: the receipt's `summary`."""
    lines: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    for row in sorted(rejected):
        for problem in rejected[row]:
            field = _of_any_element(problem["field"])
            line = lines.setdefault(
                (problem["type"], problem["code"], field),
                {
                    "type": problem["type"],
                    "code": problem["code"],
                    "field": field,
                    "count": 0,
                    "first_rows": [],
                    "message": problem["message"],
                },
            )
            line["count"] += 1
            if len(line["first_rows"]) < FIRST_ROWS and row not in line["first_rows"]:
                line["first_rows"].append(row)
    return list(lines.values())


def merged(summaries: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Summaries of several receipts as one, the most frequent first."""
    lines: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    for summary_lines in summaries:
        for line in summary_lines:
            have = lines.get(key := (line["type"], line["code"], line["field"]))
            if have is None:
                lines[key] = dict(line)
                continue
            have["count"] += line["count"]
            have["first_rows"] = sorted({*have["first_rows"], *line["first_rows"]})[:FIRST_ROWS]
    return sorted(lines.values(), key=lambda line: (-line["count"], line["code"], line["field"] or ""))


def _of_any_element(field: str | None) -> str | None:
    """`addresses[3].street` as `addresses[].street`: one line of the summary for all elements."""
    if field is None or "[" not in field:
        return field
    head, _, tail = field.partition("[")
    return f"{head}[]{tail.partition(']')[2]}"
