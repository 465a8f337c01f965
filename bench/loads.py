r"""What is measured: Penstock's imports, and `psql \copy` as the reference of every one of them."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import data
from bench.processes import Command, Finished, timed
from bench.server import Server, count, environment

PENSTOCK = Path(sys.executable).with_name("penstock")
_LIMIT_SECONDS_PER_MILLION = 600
_REJECTED_STATUS = 3  # finished with rejected records


class WrongResultError(Exception):
    """A load ended well and did not do what it should: its time means nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of import. `expected` are counters of the finished job, by the number of records; `again` imports the file once before."""

    name: str
    title: str
    file: Callable[[int], Path]
    expected: Callable[[int], dict[str, int]]
    again: bool = False
    share: float = 1.0  # of the records
    status: int = 0


@dataclass(slots=True)
class Line:
    r"""A line of the table: what was measured under one title, run by run. `paces` are rows/s as multiples of the `\copy` just before."""

    name: str
    title: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)  # bytes
    note: str = ""

    def add(self, run: Finished, reference_rate: float | None) -> None:
        """`reference_rate` in rows/s; None where there was no reference."""
        self.seconds.append(run.seconds)
        if reference_rate is not None:
            self.paces.append(self.rows / run.seconds / reference_rate)
        if run.peak_bytes is not None:
            self.peaks.append(run.peak_bytes)


def _all_new(rows: int) -> dict[str, int]:
    return {"imported_rows": rows, "updated_rows": 0, "failed_rows": 0}


def _all_the_same(rows: int) -> dict[str, int]:
    return {"imported_rows": 0, "updated_rows": rows, "unchanged_rows": rows, "failed_rows": 0}


def _some_rejected(rows: int) -> dict[str, int]:
    return {"imported_rows": rows - data.spoiled(rows), "updated_rows": 0, "failed_rows": data.spoiled(rows)}


LOADS = (
    Load("csv", "Penstock, CSV, empty table", data.csv_file, _all_new),
    Load("reimport", "Penstock, same CSV again, all unchanged", data.csv_file, _all_the_same, again=True),
    Load("ndjson", "Penstock, NDJSON, empty table", data.ndjson_file, _all_new),
    Load("bad", "Penstock, CSV, 2 % bad records", data.spoiled_csv_file, _some_rejected, status=_REJECTED_STATUS),
    Load("tenth", "Penstock, CSV, a tenth of the records", data.csv_file, _all_new, share=0.1),
)


def copy(server: Server, rows: int) -> Finished:
    r"""`psql \copy` of the CSV file straight into the bare table: no checks, no upsert, no report."""
    file = data.csv_file(rows)
    quoted = str(file).replace("'", "''")
    command: Command = [server.psql, "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", rf"\copy users from '{quoted}' csv header"]
    with server.database(with_table=True) as conninfo:
        server.settle()
        run = timed(command, env=environment(conninfo), limit_seconds=limit_seconds(rows))
        check({"rows in the table": count(conninfo)}, {"rows in the table": rows}, r"\copy")
    return run


def load(server: Server, what: Load, rows: int) -> Finished:
    """One import in an empty database whose tables stand already, as the reference's does.

    Raises WrongResultError unless the job's counters and the table hold what they should.
    """
    file = what.file(rows)
    expected = what.expected(rows)
    with server.database(with_table=False) as conninfo:
        target = {"DATABASE_URL": conninfo}
        timed([PENSTOCK, "migrate"], env=target, limit_seconds=60)
        command: Command = [PENSTOCK, "import", "users", file, "--json"]
        if what.again:
            timed(command, env=target, limit_seconds=limit_seconds(rows))
        server.settle()
        run = timed(command, env=target, limit_seconds=limit_seconds(rows), allowed=(what.status,))
        job: dict[str, Any] = json.loads(run.output)
        check(job, {"status": "COMPLETED", "total_rows": rows, **expected}, what.title)
        landed = expected["imported_rows"] + expected["updated_rows"]
        check({"rows in the table": count(conninfo)}, {"rows in the table": landed}, what.title)
    return run


def check(found: dict[str, Any], expected: dict[str, Any], title: str) -> None:
    wrong = [f"{name} is {found.get(name)!r}, not {value!r}" for name, value in expected.items() if found.get(name) != value]
    if wrong:
        raise WrongResultError(f"{title}: {'; '.join(wrong)}")


def limit_seconds(rows: int) -> float:
    return max(60.0, _LIMIT_SECONDS_PER_MILLION * rows / 1_000_000)
