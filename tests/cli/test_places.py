"""The same commands on this machine's database and on a server: a person need not know which it is."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from penstock.cli.main import run
from penstock.logs import configure_logs
from penstock.settings import LogLevel
from tests.cli.conftest import Command, Outcome
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import serving

GOOD = "email,name\nann@example.com,Ann\nbob@example.com,Bob\n"
MIXED = GOOD + "nonsense,Cy\n,Di\n"


@dataclass(frozen=True)
class Place:
    conninfo: str
    folder: Path
    server: str | None

    @property
    def options(self) -> tuple[str, ...]:
        return ("--server", self.server) if self.server else ()

    @property
    def suffix(self) -> str:
        return f" --server {self.server}" if self.server else ""

    def emails(self) -> list[str]:
        with psycopg.connect(self.conninfo) as connection:
            return [row[0] for row in connection.execute("SELECT email FROM users ORDER BY email")]


@pytest.fixture(scope="module", params=["here", "server"])
def place(request: pytest.FixtureRequest, postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    with postgres.fresh_database() as conninfo:
        if request.param == "here":
            yield Place(conninfo, folder, None)
            return
        penstock = Penstock(folder)
        try:
            with serving(penstock, env={"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(folder / "data")}) as served:
                yield Place(conninfo, folder, served.url)
        finally:
            penstock.end()


@pytest.fixture
def command(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command at the place, whose users are gone before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    # The database of a machine that only asks a server is nobody's concern.
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nobody" if place.server else place.conninfo)
    with psycopg.connect(place.conninfo, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('users')").fetchone() != (None,):
            connection.execute("DELETE FROM users")

    def execute(*arguments: object, stdin: bytes | None = None) -> Outcome:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        status = run([*map(str, arguments), *place.options])
        return Outcome(status, *capfd.readouterr())

    yield execute
    configure_logs(LogLevel.INFO)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    path.write_text(MIXED)
    return path


def test_good_records_land_and_bad_ones_are_told(command: Command, place: Place, mixed: Path) -> None:
    """Status 3, the summary with the file's name, and hints that are true there."""
    outcome = command("import", "users", mixed)
    assert outcome.status == 3, outcome.out + outcome.err
    assert place.emails() == ["ann@example.com", "bob@example.com"]
    assert "users.csv into users: completed with 2 rejected records" in outcome.out
    assert "invalid_email_format" in outcome.out
    [hint] = [line for line in outcome.out.splitlines() if "Every problem:" in line]
    assert hint.endswith(place.suffix)
    job_id = hint.split("penstock errors ")[1].split()[0]
    assert len(command("errors", job_id).lines) == 2


def test_all_landed(command: Command, place: Place, tmp_path: Path) -> None:
    """Status 0; the same file again changes nothing."""
    (tmp_path / "users.csv").write_text(GOOD)
    assert command("import", "users", "users.csv").status == 0
    again = command("import", "users", "users.csv", "--json").json
    assert (again["imported_rows"], again["unchanged_rows"], again["source_name"]) == (0, 2, "users.csv")


def test_json_is_the_job_and_nothing_else(command: Command, mixed: Path) -> None:
    """One line per file, and an empty standard error."""
    outcome = command("import", "users", mixed, mixed, "--json")
    assert (outcome.status, outcome.err) == (3, "")
    assert [line["failed_rows"] for line in outcome.lines] == [2, 2]
    assert outcome.lines[0]["errors"][0]["row"] == 3


def test_quiet_says_nothing(command: Command, mixed: Path) -> None:
    """Only the exit status tells."""
    outcome = command("import", "users", mixed, "--quiet")
    assert (outcome.status, outcome.out, outcome.err) == (3, "", "")


def test_reports_are_written(command: Command, mixed: Path, tmp_path: Path) -> None:
    """The problems in each format, and the rejected records, which import again once mended."""
    for name in ("e.ndjson", "e.csv", "e.json"):
        outcome = command("import", "users", mixed, "--errors-to", name, "--rejected-to", "r.csv")
        assert outcome.status == 3
        assert f"2 problems written to {name}" in outcome.out
        assert "2 rejected records written to r.csv" in outcome.out
    problems = json.loads((tmp_path / "e.json").read_text())
    assert [problem["row"] for problem in problems] == [3, 4]
    assert [json.loads(line) for line in (tmp_path / "e.ndjson").read_text().splitlines()] == problems
    assert len([*csv.DictReader(io.StringIO((tmp_path / "e.csv").read_text(), newline=""))]) == 2
    mended = (tmp_path / "r.csv").read_text().replace("nonsense", "cy@example.com").replace(",,Di", ",di@example.com,Di")
    (tmp_path / "mended.csv").write_text(mended)
    assert command("import", "users", "mended.csv").status == 0


def test_standard_input(command: Command, place: Place) -> None:
    """Known by that name, and nothing of it is left here."""
    outcome = command("import", "users", "-", stdin=GOOD.encode())
    assert outcome.status == 0, outcome.err
    assert "standard input into users: completed" in outcome.out
    assert len(place.emails()) == 2


def test_options_reach_the_import(command: Command, place: Place, tmp_path: Path) -> None:
    """However they are passed on: delimiter, encoding, mapping, values that mean none, mode, dry run."""
    (tmp_path / "a.txt").write_bytes("E-Mail\tname\trole\nann@example.com\tÄnn\tNA\n".encode("latin-1"))
    arguments = ("import", "users", "a.txt", "--format", "csv", "--delimiter", "tab", "--encoding", "latin-1", "--mapping", "E-Mail=email")
    rehearsal = command(*arguments, "--null-values", "NA,", "--dry-run", "--json").json
    assert (rehearsal["dry_run"], rehearsal["imported_rows"], rehearsal["failed_rows"]) == (True, 1, 0)
    assert place.emails() == []
    assert command(*arguments, "--null-values", "NA,", "--mode", "insert").status == 0
    assert command(*arguments, "--null-values", "NA,", "--mode", "insert").status == 3
    with psycopg.connect(place.conninfo) as connection:
        assert connection.execute("SELECT name, role FROM users").fetchone() == ("Änn", "reader")


def test_a_job_that_fails(command: Command, place: Place, mixed: Path) -> None:
    """Status 1 with its reason; with --atomic nothing landed; the hint to try again works."""
    outcome = command("import", "users", mixed, "--atomic")
    assert outcome.status == 1
    assert "(rejected_records)" in outcome.out
    assert place.emails() == []
    [hint] = [line for line in outcome.out.splitlines() if "To try again:" in line]
    assert hint.endswith(place.suffix)
    job_id = hint.split("--resume-job ")[1].split()[0]
    assert command("import", "--resume-job", job_id).status == 1
    assert command("job", job_id, "--json").json["attempts"] == 2


def test_several_files_stop_at_the_first_failure(command: Command, mixed: Path, tmp_path: Path) -> None:
    """In order; what was not started is named."""
    (tmp_path / "b.csv").write_text("")
    outcome = command("import", "users", mixed, "b.csv", mixed)
    assert outcome.status == 1
    assert "empty_file" in outcome.out + outcome.err
    assert f"Not started: {mixed}" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["import", "nonsense", "users.csv"], "unknown_resource"),
        (["import", "users", "none.csv"], "invalid_source"),
        (["import", "users", "users.csv", "--timezone", "Mars"], "invalid_option"),
        (["import", "users", "users.csv", "--mapping", "name=nmae"], "invalid_option"),
        (["resources", "nonsense"], "unknown_resource"),
    ],
)
def test_what_can_never_work_is_refused(command: Command, place: Place, mixed: Path, arguments: list[str], code: str) -> None:
    """Exit status 2, the same code, and no job."""
    before = command("jobs", "--json").json
    outcome = command(*arguments, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (2, code)
    assert command("jobs", "--json").json == before


def test_jobs_are_listed_shown_and_followed(command: Command, mixed: Path) -> None:
    """Newest first, filtered; by the beginning of an id; a job that has ended is followed to its end at once."""
    job_id = command("import", "users", mixed, "--json").json["job_id"]
    listed = command("jobs", "--json", "--limit", "1", "--resource", "users", "--status", "completed").json["items"]
    assert [job["job_id"] for job in listed] == [job_id]
    assert "users.csv" in command("jobs").out
    assert "completed with 2 rejected records" in command("job", job_id[:13]).out
    followed = command("job", job_id, "--follow")
    assert followed.status == 3
    assert command("jobs", "--status", "cancelled", "--resource", "articles").out == "No such jobs.\n"


def test_what_is_no_job_is_told(command: Command) -> None:
    """Status 1 and one code, also for the beginning of an id and for what is none."""
    for given in ("ffffffff-ffff-4fff-8fff-ffffffffffff", "ffffffff", "x"):
        for name in ("job", "errors", "cancel"):
            outcome = command(name, given)
            assert outcome.status == 1, (name, given, outcome.err)
            assert "(job_not_found)" in outcome.err


def test_a_job_that_has_ended_cannot_be_cancelled(command: Command, mixed: Path) -> None:
    """invalid_state."""
    job_id = command("import", "users", mixed, "--json").json["job_id"]
    outcome = command("cancel", job_id, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (1, "invalid_state")


def test_errors_go_to_standard_output_or_files(command: Command, mixed: Path, tmp_path: Path) -> None:
    """Every problem, and the rejected records."""
    job_id = command("import", "users", mixed, "--json").json["job_id"]
    assert [line["row"] for line in command("errors", job_id).lines] == [3, 4]
    assert command("errors", job_id, "--output", "e.csv", "--rejected", "r.csv").status == 0
    assert (tmp_path / "r.csv").read_text().splitlines()[0] == "_errors,email,name"
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3


def test_resources_are_described_alike(command: Command, place: Place) -> None:
    """Fields, rules, keys and references; a server keeps its tables' names to itself."""
    shown = command("resources", "articles").out
    assert "one of draft, published, archived" in shown
    assert "author_id refers to users; or give author_email" in shown
    assert "draft_cannot_have_published_at" in shown
    assert ("table articles" in shown) is (place.server is None)
    listed = command("resources", "--json").json["items"]
    assert {one["name"] for one in listed} >= {"users", "articles", "comments", "products"}
    products = command("resources", "products", "--json").json
    price = next(field for field in products["fields"] if field["name"] == "price")
    assert {name: price[name] for name in ("type", "required", "minimum", "precision", "scale")} == {
        "type": "number",
        "required": True,
        "minimum": "0",
        "precision": 12,
        "scale": 2,
    }
    users = command("resources", "users", "--json").json
    assert [field["name"] for field in users["children"][0]["fields"]][:2] == ["street", "city"]


def test_doctor_and_version(command: Command, place: Place) -> None:
    """What is looked at is the server where there is one."""
    outcome = command("doctor", "--json")
    assert outcome.json["ok"], outcome.out
    names = {check["name"] for check in outcome.json["checks"]}
    assert ("server's database" in names) is (place.server is not None)
    assert command("doctor").status == 0
    version = command("version", "--json").json
    assert version.get("server") == (version["penstock"] if place.server else None)
