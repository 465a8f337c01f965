"""What can never work is told at once, without a job; what another process did is told as it is."""

import json
from pathlib import Path

import pytest

from tests.support.commands import Penstock

USERS = "email,name\nann@example.com,Ann\n"


@pytest.mark.parametrize(
    "options",
    [("--encoding", "klingon"), ("--encoding", "utf-16"), ("--mapping", "E-Mail=email"), ("--mapping", "name=nmae"), ("--delimiter", '"')],
)
def test_option_that_can_never_work(run_penstock: Penstock, database: str, tmp_path: Path, options: tuple[str, str]) -> None:
    """Exit status 2, a reason, and no job that could be resumed in vain."""
    (tmp_path / "users.csv").write_text(USERS)
    env = {"DATABASE_URL": database}
    done = run_penstock("import", "users", "users.csv", *options, env=env)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error" in done.stderr
    assert json.loads(run_penstock("jobs", "--json", env=env).stdout)["items"] == []


def test_device_is_no_file(run_penstock: Penstock, database: str) -> None:
    """A device that never ends is refused, not copied until the disk is full."""
    done = run_penstock("import", "users", "/dev/zero", env={"DATABASE_URL": database})
    assert done.returncode == 2, done.stderr
    assert "regular file" in done.stderr


def test_same_file_by_two_processes_at_once(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """One imports it; the other waits and shows the same job, or comes later and finds all unchanged. Neither is told that it failed."""
    (tmp_path / "users.csv").write_text(USERS + "".join(f"user{n}@example.com,User {n}\n" for n in range(30_000)))
    env = {"DATABASE_URL": database, "IMPORT_CHUNK_SIZE": "65536"}
    both = [run_penstock.start("import", "users", "users.csv", env=env) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, out + err
        assert "has not ended" not in err
    jobs = json.loads(run_penstock("jobs", "--json", env=env).stdout)["items"]
    assert {job["status"] for job in jobs} == {"COMPLETED"}
    assert sum(job["imported_rows"] for job in jobs) == 30_001
