"""Queued exports, as the commands show and change them: through the server that has them, and on the same database without it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.cli.main import run
from penstock.logs import configure_logs
from penstock.settings import LogLevel
from tests.cli.conftest import Command, Outcome
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import Served, serving


@contextmanager
def _served(postgres: TestServer, folder: Path, *options: str) -> Iterator[tuple[Served, str]]:
    penstock = Penstock(folder)
    with postgres.fresh_database() as conninfo:
        env = {"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(folder / "data")}
        (folder / "users.csv").write_text("email,name,role\nann@example.com,Ann,admin\nbob@example.com,Bob,user\n")
        assert penstock("import", "users", "users.csv", env=env).returncode == 0
        try:
            with serving(penstock, *options, env=env) as served:
                yield served, conninfo
        finally:
            penstock.end()


@pytest.fixture(scope="module")
def working(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    with _served(postgres, tmp_path_factory.mktemp("there")) as found:
        yield found


@pytest.fixture(scope="module")
def idle(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """Without a worker: what is queued there waits."""
    with _served(postgres, tmp_path_factory.mktemp("idle"), "--no-worker") as found:
        yield found


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))

    def execute(*arguments: object) -> Outcome:
        capfd.readouterr()
        return Outcome(run([str(argument) for argument in arguments]), *capfd.readouterr())

    yield execute
    configure_logs(LogLevel.INFO)


def _queued(served: Served) -> str:
    asked = {"resource": "users", "format": "csv", "compression": "gzip", "filters": {"role": "admin"}}
    answer = served.http.post("/v1/exports", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


@pytest.mark.parametrize("there", [True, False])
def test_they_are_jobs_like_imports(command: Command, working: tuple[Served, str], there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed, listed by type, shown with what they were asked and where their file is."""
    served, conninfo = working
    monkeypatch.setenv("DATABASE_URL", conninfo)
    option = ("--server", served.url) if there else ()
    job_id = _queued(served)
    followed = command("job", job_id, "--follow", "--json", *option)
    assert followed.status == 0
    assert (followed.json["status"], followed.json["export"]["filters"]) == ("COMPLETED", {"role": "admin"})
    assert len(followed.json["file"]["sha256"]) == 64
    types = {
        name: {job["type"] for job in command("jobs", "--type", name, "--json", *option).json["items"]} for name in ("export", "import")
    }
    assert types == {"export": {"EXPORT"}, "import": {"IMPORT"}}
    shown = command("job", job_id[:13], *option).out
    assert "users.csv.gz from users: completed" in shown
    assert "role=admin" in shown
    assert f"/v1/exports/{job_id}/download" in shown
    assert (served.url in shown) is there
    listed = command("jobs", *option).out.splitlines()
    assert [line.split()[1] for line in listed[1:]].count("import") == 1


@pytest.mark.parametrize("there", [True, False])
def test_what_they_have_not_is_told(command: Command, working: tuple[Served, str], there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rejected records, nothing to go on with, nothing to cancel after the end: invalid_state, and nothing on standard output."""
    served, conninfo = working
    monkeypatch.setenv("DATABASE_URL", conninfo)
    option = ("--server", served.url) if there else ()
    job_id = _queued(served)
    assert command("job", job_id, "--follow", *option).status == 0
    for arguments in (["errors", job_id], ["errors", job_id, "--output", "e.csv"], ["cancel", job_id], ["import", "--resume-job", job_id]):
        outcome = command(*arguments, *option)
        assert (outcome.status, outcome.out) == (1, ""), arguments
        assert "(invalid_state)" in outcome.err
    assert "is an export: it has no rejected records" in command("errors", job_id, *option).err
    assert not Path("e.csv").exists()


@pytest.mark.parametrize("there", [True, False])
def test_they_are_cancelled(command: Command, idle: tuple[Served, str], there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits is cancelled at once; nothing asks to go on with it."""
    served, conninfo = idle
    monkeypatch.setenv("DATABASE_URL", conninfo)
    option = ("--server", served.url) if there else ()
    job_id = _queued(served)
    assert command("cancel", job_id, *option).out == f"Job {job_id} is cancelled.\n"
    assert served.http.get(f"/v1/exports/{job_id}").json()["status"] == "CANCELLED"
    shown = command("job", job_id, *option)
    assert "users.csv.gz from users: cancelled" in shown.out
    assert "import --resume" not in shown.out
    assert f"/v1/exports/{job_id}/retry" in shown.out
    assert "Nothing to go on with" in command("import", "--resume").err
