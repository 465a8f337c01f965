"""`penstock import`: exit status, what is passed on, what is shown, what is written."""

import csv
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from penstock.cli.importing import FormatName
from penstock.cli.spool import spool
from penstock.errors import DatabaseUnavailableError, InvalidStateError, UnknownFormatError
from penstock.formats.model import Format
from penstock.jobs.model import Empty, Job, JobFailure, JobStatus, Mode, OnError
from tests.cli.conftest import Command
from tests.cli.fakes import EMAIL_SUMMARY, HOSTILE, SHOWN, FakeImports, completed, error_record, make_job


def failed(job: Job) -> Job:
    return completed(job, status=JobStatus.FAILED, error=JobFailure(code="too_many_errors", message="more than 5 bad records"))


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (completed, 0),
        (lambda job: completed(job, 2), 3),
        (failed, 1),
        (lambda job: completed(job, status=JobStatus.CANCELLED), 130),
        (DatabaseUnavailableError("gone"), 1),
        (ZeroDivisionError("oops"), 1),
    ],
)
def test_exit_status(penstock: Command, imports: FakeImports, users_csv: Path, ending: Any, status: int) -> None:
    """0 all landed, 3 with rejected records, 1 failed, 130 cancelled."""
    imports.ending = ending
    assert penstock("import", "users", users_csv).status == status


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", "users"],
        ["import", "users", "none.csv"],
        ["import", "users", "."],
        ["import", "users", "-", "-"],
        ["import", "users", "users.csv", "--mode", "replace"],
        ["import", "users", "users.csv", "--delimiter", "||"],
        ["import", "users", "users.csv", "--mapping", "email"],
        ["import", "users", "users.csv", "--mapping", "{not json"],
        ["import", "users", "users.csv", "--mapping", "a=email", "--mapping", "a=name"],
        ["import", "users", "users.csv", "--max-errors", "-1"],
        ["import", "users", "users.csv", "--errors-to", "report.txt"],
        ["import", "users", "users.csv", "--errors-to", "nowhere/report.csv"],
        ["import", "users", "users.csv", "--rejected-to", "users.csv"],
        ["import", "users", "users.csv", "--errors-to", "a.csv", "--rejected-to", "a.csv"],
        ["import", "users", "users.csv", "--resume-job", "1"],
        ["import", "--resume", "--mode", "insert"],
        ["import", "nonsense", "users.csv"],
    ],
)
def test_usage_errors_end_before_anything_is_imported(
    penstock: Command, imports: FakeImports, users_csv: Path, arguments: list[str]
) -> None:
    """Exit status 2, one problem object with --json, and no job; the input file is as it was."""
    before = users_csv.read_bytes()
    outcome = penstock(*arguments)
    assert outcome.status == 2
    assert "rror: " in outcome.err
    assert outcome.out == ""
    assert not imports.created
    assert penstock(*arguments, "--json").json["error"]["code"]
    assert users_csv.read_bytes() == before


def test_options_reach_the_service(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """Every option arrives as the service wants it."""
    outcome = penstock(
        *("import", "users", users_csv, "--mode", "insert", "--empty", "clear", "--on-error", "abort", "--atomic", "--dry-run"),
        *(
            "--max-errors",
            5,
            "--format",
            "csv",
            "--delimiter",
            "tab",
            "--encoding",
            "latin-1",
            "--null-values",
            "NULL,",
            "--null-values",
            "NA",
        ),
        *("--timezone", "Europe/Lisbon", "--datetime-format", "%d.%m.%Y", "--mapping", "a=b=email", "--mapping", '{"Name": "name"}'),
    )
    assert outcome.status == 0
    [(resource, path, read, options)] = imports.created
    assert (resource, path) == ("users", str(users_csv.absolute()))
    assert (read.format, read.delimiter, read.encoding) == (Format.CSV, "\t", "latin-1")
    assert read.null_values == ("NULL", "", "NA")
    assert read.mapping == {"a=b": "email", "Name": "name"}
    assert (options.mode, options.empty, options.on_error) == (Mode.INSERT, Empty.CLEAR, OnError.ABORT)
    assert (options.atomic, options.dry_run, options.max_errors) == (True, True, 5)
    assert (options.timezone, options.datetime_format) == ("Europe/Lisbon", "%d.%m.%Y")


def test_formats_offered_are_the_formats_there_are() -> None:
    """The list in the command stands apart from the enumeration, to keep --help quick."""
    assert set(get_args(FormatName)) == {form.value for form in Format}


def test_json_is_the_job_and_nothing_else(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """One line of JSON per file on standard output, in the API's shape; standard error is empty."""
    outcome = penstock("import", "users", users_csv, users_csv, "--json")
    assert outcome.err == ""
    assert [line["status"] for line in outcome.lines] == ["COMPLETED", "COMPLETED"]
    assert outcome.lines[0].keys() == set(Job.__struct_fields__)
    assert outcome.lines[0]["finished_at"].endswith("Z")


def test_json_error_is_a_problem_object(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """`type`, `title`, `status`, `detail` and the `error` member of the API."""
    imports.create_error = UnknownFormatError("that is a ZIP archive", found="zip")
    outcome = penstock("import", "users", users_csv, "--json")
    assert outcome.status == 1
    assert outcome.err == ""
    assert outcome.json["status"] == 415
    assert outcome.json["error"] == {"code": "unknown_format", "message": "that is a ZIP archive", "details": {"found": "zip"}}


def test_errors_are_one_line_with_their_code(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """`error: <message> (<code>)` on standard error."""
    imports.create_error = UnknownFormatError("that is a ZIP archive")
    assert penstock("import", "users", users_csv).err == "error: that is a ZIP archive (unknown_format)\n"


def test_unexpected_errors_tell_how_to_see_more(
    penstock: Command, imports: FakeImports, users_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, unless PENSTOCK_TRACEBACK=1 or --log-level debug asks for it."""
    imports.ending = ZeroDivisionError("oops")
    outcome = penstock("import", "users", users_csv)
    assert "PENSTOCK_TRACEBACK=1" in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in penstock("--log-level", "debug", "import", "users", users_csv).err
    monkeypatch.setenv("PENSTOCK_TRACEBACK", "1")
    assert "Traceback" in penstock("import", "users", users_csv).err


def test_several_files_stop_at_the_first_failure(penstock: Command, imports: FakeImports, tmp_path: Path) -> None:
    """In order, each its own job; what was not started is named; the status is the worst."""
    files = [tmp_path / f"{name}.csv" for name in "abc"]
    for file in files:
        file.write_text("email\n")
    imports.ending = lambda job: failed(job) if job.source_name == "b.csv" else completed(job, 1)
    outcome = penstock("import", "users", *files)
    assert outcome.status == 1
    assert [Path(path).name for _, path, _, _ in imports.created] == ["a.csv", "b.csv"]
    assert f"Not started: {files[2]}" in outcome.err
    imports.ending = lambda job: completed(job, 1) if job.source_name == "a.csv" else completed(job)
    assert penstock("import", "users", *files).status == 3


def test_summary_shows_figures_problems_warnings_and_what_to_do(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """What landed, what was rejected and why, and the commands that help."""
    imports.ending = lambda job: completed(job, 2, error_summary=[EMAIL_SUMMARY], warnings=["columns ignored: newsletter"])
    out = penstock("import", "users", users_csv).out
    assert "users.csv into users: completed with 2 rejected records" in out
    assert "invalid_email_format" in out
    assert "3, 7" in out
    assert "email must be a valid e-mail address" in out
    assert "Warning: columns ignored: newsletter" in out
    assert f"penstock errors {imports.ran[0]}" in out
    assert "--rejected rejected-users.csv" in out


def test_quiet_says_nothing(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """Only the exit status tells."""
    imports.ending = lambda job: completed(job, 2)
    outcome = penstock("import", "users", users_csv, "--quiet")
    assert (outcome.status, outcome.out, outcome.err) == (3, "", "")


def test_hostile_text_cannot_steer_the_terminal(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """Escapes, markup, emoji codes, line feeds, direction marks and broken surrogates come out as harmless text, and nothing fails."""
    summary = msgspec.structs.replace(EMAIL_SUMMARY, code=HOSTILE, field=HOSTILE, message=HOSTILE)
    imports.ending = lambda job: completed(
        job,
        2,
        status=JobStatus.FAILED,
        error=JobFailure(code=HOSTILE, message=HOSTILE),
        error_summary=[summary],
        warnings=[HOSTILE],
        source_name=HOSTILE,
        format=HOSTILE,
        resource=HOSTILE,
    )
    outcome = penstock("import", "users", users_csv)
    for text in (outcome.out, outcome.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\r" not in text
    assert outcome.out.count(SHOWN) >= 5
    listed = penstock("jobs")
    assert "\x1b" not in listed.out
    assert r"\x1b[31m" in listed.out


def test_reports_are_written(penstock: Command, imports: FakeImports, users_csv: Path, tmp_path: Path) -> None:
    """NDJSON, CSV and JSON by the file's name; the rejected records as the service writes them."""
    imports.error_records = [error_record(1), error_record(2, field=None, line=None, value=None, record="a,\"b\nc'")]
    imports.ending = lambda job: completed(job, 2)
    for name in ("e.ndjson", "e.csv", "e.json"):
        outcome = penstock("import", "users", users_csv, "--errors-to", name, "--rejected-to", "r.csv")
        assert outcome.status == 3
        assert f"2 problems written to {name}" in outcome.out
        assert "penstock errors" not in outcome.out
    assert [json.loads(line) for line in (tmp_path / "e.ndjson").read_text().splitlines()] == imports.error_records
    assert json.loads((tmp_path / "e.json").read_text()) == imports.error_records
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [row["row"] for row in rows] == ["1", "2"]
    assert [json.loads(row["record"]) for row in rows] == [record["record"] for record in imports.error_records]
    assert rows[1]["field"] == ""
    assert (tmp_path / "r.csv").read_bytes() == b"_errors,email\nbad,foo@bar\n"
    assert not list(tmp_path.glob(".*.part"))


def test_an_empty_report_replaces_an_old_one(penstock: Command, users_csv: Path, tmp_path: Path) -> None:
    """With no bad record the report is written too: yesterday's would be taken for today's."""
    (tmp_path / "e.json").write_text("old")
    assert penstock("import", "users", users_csv, "--errors-to", "e.json").status == 0
    assert json.loads((tmp_path / "e.json").read_text()) == []


def test_reports_of_several_files_are_numbered(penstock: Command, imports: FakeImports, users_csv: Path, tmp_path: Path) -> None:
    """One report per file; no report overwrites another's."""
    imports.error_records = [error_record(1)]
    penstock("import", "users", users_csv, users_csv, "--errors-to", "e.ndjson")
    assert sorted(path.name for path in tmp_path.glob("e*")) == ["e-1.ndjson", "e-2.ndjson"]


def test_standard_input_is_kept_until_its_job_is_complete(penstock: Command, imports: FakeImports, tmp_path: Path) -> None:
    """The bytes arrive whole in a private file of the data folder, which goes with COMPLETED and stays with anything else."""
    data = os.urandom(3_000_000)
    folder = tmp_path / "data" / "spool"
    assert penstock("import", "users", "-", stdin=data).status == 0
    assert imports.contents == [data]
    assert list(folder.iterdir()) == []
    imports.ending = failed
    outcome = penstock("import", "users", "-", stdin=b"email\n")
    assert "standard input into users: failed" in outcome.out
    [kept] = folder.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_bytes() == b"email\n"


def test_standard_input_that_no_job_takes_is_not_kept(penstock: Command, imports: FakeImports, tmp_path: Path) -> None:
    """Refused at the start, or the same bytes as an unfinished job that has its own file."""
    imports.create_error = UnknownFormatError("zip")
    assert penstock("import", "users", "-", stdin=b"PK").status == 1
    imports.create_error = None
    imports.same_bytes = make_job(9, source_name="stdin-0123456789abcdef")
    imports.jobs[imports.same_bytes.job_id] = imports.same_bytes
    outcome = penstock("import", "users", "-", stdin=b"email\n")
    assert f"going on with job {imports.same_bytes.job_id}" in outcome.err
    assert list((tmp_path / "data" / "spool").iterdir()) == []


def test_a_pipe_is_spooled_like_standard_input(penstock: Command, imports: FakeImports, tmp_path: Path) -> None:
    """What the shell's <(...) passes can be read once only."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"email\na@example.com\n"))
    writer.start()
    assert penstock("import", "users", pipe).status == 0
    writer.join()
    assert imports.contents == [b"email\na@example.com\n"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path, users_csv: Path) -> None:
    """A half-received file without a living receiver is no use to anybody."""
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "stdin-0000000000000000.part").write_bytes(b"half")
    with users_csv.open("rb") as stream:
        path = spool(stream, tmp_path)
    assert list(folder.iterdir()) == [path]


def test_the_same_command_goes_on_with_an_unfinished_job(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """And says so; --new starts afresh; --resume insists."""
    assert penstock("import", "users", users_csv, "--resume").status == 1
    assert not imports.created
    imports.same_bytes = make_job(7, processed_rows=1234, status=JobStatus.CANCELLED)
    imports.jobs[imports.same_bytes.job_id] = imports.same_bytes
    outcome = penstock("import", "users", users_csv)
    assert f"going on with job {imports.same_bytes.job_id}, which had come to row 1,234" in outcome.err
    assert imports.ran == [imports.same_bytes.job_id]
    assert not imports.created
    for option in ("--new", "--no-resume"):
        penstock("import", "users", users_csv, option)
    assert len(imports.created) == 2


def test_resume_goes_on_with_what_was_interrupted_oldest_first(penstock: Command, imports: FakeImports) -> None:
    """Not with dry runs, ended jobs, or a cancelled job whose file was imported anew; one that another process works on is no obstacle."""
    kept = [
        make_job(3, status=JobStatus.CANCELLED, source_name="c.csv"),
        make_job(5, status=JobStatus.PROCESSING, source_name="a.csv"),
        make_job(8, status=JobStatus.PENDING, source_name="b.csv"),
    ]
    left = [
        make_job(1, status=JobStatus.CANCELLED, source_name="d.csv"),
        completed(make_job(2, source_name="d.csv")),
        make_job(6, status=JobStatus.CANCELLED, dry_run=True, source_name="e.csv"),
        make_job(9, status=JobStatus.FAILED, source_name="f.csv"),
    ]
    imports.jobs = {job.job_id: job for job in [*kept, *left]}
    assert penstock("import", "--resume").status == 0
    assert imports.ran == [job.job_id for job in kept]
    assert "Nothing to go on with" in penstock("import", "--resume").err


def test_resume_passes_over_what_another_process_works_on(penstock: Command, imports: FakeImports) -> None:
    """It is told, the others are carried on, and the status says that not all have ended."""
    first, second = make_job(1, status=JobStatus.PROCESSING, source_name="a"), make_job(2, status=JobStatus.PROCESSING, source_name="b")
    imports.jobs = {first.job_id: first, second.job_id: second}
    imports.ending = InvalidStateError("another process is at it")
    outcome = penstock("import", "--resume")
    assert outcome.status == 1
    assert imports.ran == [first.job_id, second.job_id]
    assert outcome.err.count("another process is at it (invalid_state)") == 2


def test_resume_job_takes_a_beginning_of_the_id(penstock: Command, imports: FakeImports) -> None:
    """A failed job, too, may be tried again by name."""
    job = make_job(0xABCD0000, status=JobStatus.FAILED)
    imports.jobs = {job.job_id: job}
    assert penstock("import", "--resume", "--resume-job", "abcd").status == 0
    assert imports.ran == [job.job_id]


def test_an_outage_tells_how_to_go_on(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """The job stays where it is, and can be gone on with."""
    imports.ending = DatabaseUnavailableError("the database went away")
    outcome = penstock("import", "users", users_csv)
    assert "penstock import --resume" in outcome.err
    assert "error: the database went away (database_unavailable)" in outcome.err


def test_waiting_for_a_lease_is_told_once(penstock: Command, imports: FakeImports, users_csv: Path) -> None:
    """The attempt before may still live: a person should know why nothing moves."""
    imports.lease_seconds_left = 17.2
    outcome = penstock("import", "users", users_csv)
    assert outcome.status == 0
    assert outcome.err.count("waiting for 17 s") == 1
