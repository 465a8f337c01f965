"""`penstock jobs`, `job`, `errors`, `cancel`."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.errors import DatabaseUnavailableError
from penstock.jobs.model import JobId, JobStatus
from tests.cli.conftest import Command
from tests.cli.fakes import EMAIL_SUMMARY, FakeImports, completed, error_record, make_job


@pytest.fixture
def filled(imports: FakeImports) -> FakeImports:
    """Thirty jobs, the newest with rejected records."""
    for number in range(1, 30):
        job = make_job(number, source_name=f"{number}.csv", resource="users" if number % 2 else "articles")
        imports.jobs[job.job_id] = completed(job)
    last = make_job(30, source_name="30.csv")
    imports.jobs[last.job_id] = completed(last, 2, error_summary=[EMAIL_SUMMARY])
    imports.error_records = [error_record(3), error_record(7)]
    return imports


def test_jobs_are_listed_newest_first(penstock: Command, filled: FakeImports) -> None:
    """Twenty unless --limit says otherwise; filters are the service's."""
    outcome = penstock("jobs", "--json")
    assert [job["source_name"] for job in outcome.json["items"]] == [f"{n}.csv" for n in range(30, 10, -1)]
    assert len(penstock("jobs", "--limit", 25, "--resource", "articles", "--json").json["items"]) == 14
    assert penstock("jobs", "--status", "pending", "--json").json == {"items": []}
    shown = penstock("jobs", "--limit", 2).out
    assert "30.csv" in shown
    assert "29.csv" in shown
    assert "28.csv" not in shown
    assert penstock("jobs", "--status", "FAILED").out == "No such jobs.\n"
    assert penstock("jobs", "--status", "lost").status == 2


def test_a_job_is_shown_whole(penstock: Command, filled: FakeImports) -> None:
    """By its id or the beginning of it; with --json as the API has it. Looking at a job with rejected records is no failure."""
    outcome = penstock("job", "0000001e")
    assert outcome.status == 0
    assert "30.csv into users: completed with 2 rejected records" in outcome.out
    assert "invalid_email_format" in outcome.out
    full = penstock("job", "0000001e-0000-0000-0000-000000000000", "--json").json
    assert (full["failed_rows"], full["error_summary"][0]["count"]) == (2, 2)


def test_an_unknown_job_is_told(penstock: Command, filled: FakeImports) -> None:
    """Status 1 and the code of the API."""
    for arguments in (["job", "ffff"], ["errors", "ffff"], ["cancel", "ffff"]):
        outcome = penstock(*arguments)
        assert outcome.status == 1
        assert "(job_not_found)" in outcome.err
    assert penstock("job", "ffff", "--json").json["error"]["code"] == "job_not_found"


def test_follow_waits_for_the_end(penstock: Command, imports: FakeImports, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks until the job has ended, and ends with the status of the import."""
    job = make_job(1, status=JobStatus.PROCESSING, processed_bytes=10)
    looks: Iterator[Any] = iter([job, job, completed(job, 1)])
    monkeypatch.setattr(imports, "get", lambda _id: next(looks))
    monkeypatch.setattr("penstock.cli.local.LOOK_SECONDS", 0)
    outcome = penstock("job", "1", "--follow")
    assert outcome.status == 3
    assert "completed with 1 rejected record" in outcome.out
    assert list(looks) == []


def test_errors_go_to_standard_output(penstock: Command, filled: FakeImports) -> None:
    """NDJSON unless --format says otherwise, and nothing else beside them."""
    outcome = penstock("errors", "0000001e")
    assert outcome.lines == filled.error_records
    assert outcome.err == ""
    assert penstock("errors", "0000001e", "--format", "json").json == filled.error_records
    [first, _] = csv.DictReader(io.StringIO(penstock("errors", "0000001e", "--format", "csv").out, newline=""), strict=True)
    assert json.loads(first["record"]) == filled.error_records[0]["record"]


def test_errors_and_rejected_records_go_to_files(penstock: Command, filled: FakeImports, tmp_path: Path) -> None:
    """The format follows the name; --rejected alone prints no problems."""
    outcome = penstock("errors", "0000001e", "--output", "e.json", "--rejected", "r.csv")
    assert (outcome.status, outcome.out) == (0, "")
    assert json.loads((tmp_path / "e.json").read_text()) == filled.error_records
    assert (tmp_path / "r.csv").read_bytes().startswith(b"_errors")
    assert penstock("errors", "0000001e", "--rejected", "r2.csv").out == ""
    assert penstock("errors", "0000001e", "--output", "e.txt").status == 2


def test_a_report_that_breaks_off_leaves_the_old_one(
    penstock: Command, filled: FakeImports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a report is never taken for a whole one."""

    def breaking(_job_id: JobId) -> Iterator[dict[str, Any]]:
        yield error_record(1)
        raise DatabaseUnavailableError("gone")

    (tmp_path / "e.csv").write_text("old")
    monkeypatch.setattr(filled, "errors", breaking)
    assert penstock("errors", "0000001e", "--output", "e.csv").status == 1
    assert (tmp_path / "e.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["e.csv"]


def test_a_report_may_go_to_a_device(penstock: Command, filled: FakeImports) -> None:
    """What is no regular file is written, not replaced."""
    before = Path("/dev/null").stat().st_ino
    assert penstock("errors", "0000001e", "--format", "csv", "--output", "/dev/null").status == 0
    assert Path("/dev/null").stat().st_ino == before


def test_cancel(penstock: Command, imports: FakeImports) -> None:
    """A running job is cancelled; one that has ended is invalid_state."""
    job = make_job(1, status=JobStatus.PROCESSING)
    imports.jobs[job.job_id] = job
    assert "is cancelled" in penstock("cancel", "00000001").out
    outcome = penstock("cancel", "00000001", "--json")
    assert outcome.status == 1
    assert outcome.json["error"]["code"] == "invalid_state"
    imports.jobs[job.job_id] = msgspec.structs.replace(job, job_id=job.job_id)
    assert penstock("cancel", "00000001", "--json").json["status"] == "CANCELLED"
