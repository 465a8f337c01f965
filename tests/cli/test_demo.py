"""The commands on a real database: the samples are reported exactly as their manifest says, and the demo holds them to it."""

import json
import shlex
from collections import Counter
from pathlib import Path

from penstock.samples import write_samples
from tests.support.commands import Penstock


def test_samples_are_reported_exactly_as_they_were_spoiled(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """Imported, updated, rejected, and the problems by code: file by file what the manifest says; a second import changes nothing."""
    manifest = write_samples(tmp_path / "samples", 0.1)
    env = {"DATABASE_URL": database}
    for file in manifest.files:
        done = run_penstock("import", file.resource, file.path, "--json", "--errors-to", "errors.ndjson", env=env)
        assert done.returncode == 3, done.stdout + done.stderr
        job = json.loads(done.stdout)
        assert (job["imported_rows"], job["updated_rows"], job["failed_rows"]) == (file.imported, file.updated, file.rejected)
        errors = [json.loads(line) for line in (tmp_path / "errors.ndjson").read_bytes().splitlines()]
        assert Counter(error["code"] for error in errors) == file.problems
    for file in manifest.files:
        job = json.loads(run_penstock("import", file.resource, file.path, "--json", env=env).stdout)
        good = file.imported + file.updated
        assert (job["imported_rows"], job["updated_rows"], job["unchanged_rows"]) == (0, good, good)


def test_the_rejected_records_come_back_in_their_own_format(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """Imported again as they are they are rejected again, each for the same reasons."""
    users = write_samples(tmp_path / "samples", 0.1).named("users.csv")
    env = {"DATABASE_URL": database}
    run_penstock("import", "users", users.path, "--rejected-to", "rejected.csv", env=env)
    again = json.loads(run_penstock("import", "users", "rejected.csv", "--json", env=env).stdout)
    assert (again["total_rows"], again["failed_rows"]) == (users.rejected, users.rejected)


def test_the_demo_works_twice(run_penstock: Penstock, database: str) -> None:
    """It writes, imports, explains, imports again, exports, imports that, counts; and nothing is in its way the second time."""
    env = {"DATABASE_URL": database}
    for _ in range(2):
        done = run_penstock("demo", "--scale", "0.02", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "unchanged; 0 new" in done.stdout
        assert done.stdout.count("imported again: all ") == 2
        assert "id,email,name" in done.stdout
        assert "Try next" in done.stdout
    jobs = json.loads(run_penstock("jobs", "--limit", "3", "--json", env=env).stdout)["items"]
    assert [job["failed_rows"] for job in jobs[:2]] == [0, 0]  # of what was exported
    assert f"{jobs[2]['failed_rows']} rejected as before" in done.stdout


def test_what_the_demo_says_to_try_works_as_printed(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """The export of it, to a standard output that holds its records."""
    env = {"DATABASE_URL": database}
    shown = run_penstock("demo", "--scale", "0.02", env=env).stdout
    [line] = [line for line in shown.splitlines() if "penstock export" in line]
    done = run_penstock(*shlex.split(line.partition("penstock ")[2]), env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("email,name,created_at\n")
    assert len(done.stdout.splitlines()) > 1


def test_doctor_and_migrate_on_a_good_database(run_penstock: Penstock, empty_database: str) -> None:
    """A new database is to be migrated, which is no fault; afterwards it is up to date."""
    env = {"DATABASE_URL": empty_database}
    before = json.loads(run_penstock("doctor", "--json", env=env).stdout)
    assert before["ok"]
    assert "to be applied" in next(check["found"] for check in before["checks"] if check["name"] == "migrations")
    assert json.loads(run_penstock("migrate", "--json", env=env).stdout)["applied"]
    assert json.loads(run_penstock("migrate", "--json", env=env).stdout) == {"applied": []}
    after = json.loads(run_penstock("doctor", "--json", env=env).stdout)
    assert {check["name"]: check["ok"] for check in after["checks"]}["migrations"]
    assert "up to date" in next(check["found"] for check in after["checks"] if check["name"] == "migrations")
