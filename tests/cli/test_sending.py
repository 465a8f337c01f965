"""`penstock import --server` as a process: Ctrl-C at each stage, a server that is not there, commands that know no server."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.conftest import Command
from tests.cli.fakes import FakeImports
from tests.cli.test_processes import command, environment, terminal
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import Served, free_port, serving
from tests.support.waiting import until

PATIENCE_SECONDS = 30


Ask = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def conninfo(postgres: TestServer) -> Iterator[str]:
    with postgres.fresh_database() as found:
        yield found


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's data folder."""
    return tmp_path_factory.mktemp("there")


@pytest.fixture(scope="module")
def idle(conninfo: str, there: Path) -> Iterator[Served]:
    """A server without a worker: what is sent there waits."""
    penstock = Penstock(there)
    try:
        with serving(penstock, "--no-worker", env={"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(there)}) as served:
            yield served
    finally:
        penstock.end()


@pytest.fixture
def waiting(idle: Served) -> Callable[[], list[dict[str, Any]]]:
    """The jobs that came to the server since the test began."""
    before = {job["job_id"] for job in _jobs(idle)}
    return lambda: [job for job in _jobs(idle) if job["job_id"] not in before]


@pytest.fixture
def rows(conninfo: str) -> Ask:
    def ask(statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(conninfo) as connection:
            return connection.execute(statement.encode()).fetchall()

    return ask


def _jobs(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.http.get("/v1/jobs").json()["items"]
    return found


def test_ctrl_c_while_sending_leaves_nothing(
    run_penstock: Penstock, idle: Served, there: Path, waiting: Callable[[], list[dict[str, Any]]], rows: Ask
) -> None:
    """The server has taken some of it: no job, no file, no key that would answer a later request; status 130."""
    before = _files(there)
    process = run_penstock.start("import", "users", "-", "--server", idle.url)
    assert process.stdin is not None
    process.stdin.write("email,name\n" + "a@example.com,A\n" * 20_000)
    process.stdin.flush()
    noted = "SELECT 1 FROM penstock.files WHERE job_id IS NULL"  # before the first byte is stored
    assert until(lambda: rows(noted))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, err
    assert "keeps nothing of it" in err
    assert until(lambda: not rows("SELECT 1 FROM penstock.idempotency_keys WHERE job_id IS NULL"))
    assert until(lambda: not rows(noted))
    assert until(lambda: _files(there) == before)
    assert waiting() == []


def _files(there: Path) -> set[Path]:
    """What is stored, without the storage's own mark."""
    return {path for path in (there / "storage").rglob("*") if path.is_file() and path.name != ".penstock-storage"}


def test_ctrl_c_while_it_runs_asks_the_server_to_stop(
    idle: Served, waiting: Callable[[], list[dict[str, Any]]], users_csv: Path, tmp_path: Path
) -> None:
    """Like here: the job ends as cancelled, with the way to go on with it there; status 130."""
    with terminal(command("good", "import", "users", users_csv, "--server", idle.url), tmp_path) as screen:
        screen.read_until("0 rows")
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait() == 130
    [job] = waiting()
    assert job["status"] == "CANCELLED"
    assert f"penstock import --resume-job {job['job_id']} --server {idle.url}" in screen.text


def test_the_second_ctrl_c_leaves_the_job_to_the_server(
    run_penstock: Penstock, idle: Served, waiting: Callable[[], list[dict[str, Any]]], users_csv: Path, conninfo: str, rows: Ask
) -> None:
    """And says how to follow it."""
    seen = _events_asked(idle)
    process = run_penstock.start("import", "users", users_csv, "--server", idle.url)
    assert until(waiting)
    [job] = waiting()
    with psycopg.connect(conninfo) as connection:
        # Holds up the server's answer to the cancel that the first Ctrl-C asks for.
        connection.execute("SELECT 1 FROM penstock.jobs WHERE job_id = %s FOR UPDATE", [job["job_id"]])
        assert until(lambda: _events_asked(idle) > seen)
        process.send_signal(signal.SIGINT)
        assert until(lambda: rows("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert f"penstock job {job['job_id']} --follow --server {idle.url}" in err


def _events_asked(served: Served) -> int:
    """How often a job was asked for: a command does it once its file is sent, and then watches."""
    return sum(line["event"] == "request" and line.get("route") == "/v1/jobs/{job_id}" for line in served.lines)


def test_a_job_that_another_carries_is_followed(
    run_penstock: Penstock, idle: Served, there: Path, waiting: Callable[[], list[dict[str, Any]]], users_csv: Path, conninfo: str
) -> None:
    """From its beginning to its end, by a command that had no part in it; its exit status is that of the import."""
    sent = run_penstock.start("import", "users", users_csv, "--server", idle.url, "--json")
    assert until(waiting)
    [job] = waiting()
    follower = run_penstock.start("job", str(job["job_id"]), "--follow", "--json", "--server", idle.url)
    worker = run_penstock.start("worker", env={"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(there)})
    for process in (sent, follower):
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, err) == (0, ""), out
        assert json.loads(out)["status"] == "COMPLETED"
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE_SECONDS)


def test_the_environment_names_the_server(penstock: Command, idle: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """PENSTOCK_SERVER, unless the option says otherwise; before or after the command."""
    monkeypatch.setenv("PENSTOCK_SERVER", idle.url)
    assert penstock("version", "--json").json["server"]
    assert "server" not in penstock("version", "--json", "--server", "").json
    assert penstock("sample", "made", "--scale", "0.01").status == 0
    monkeypatch.setenv("PENSTOCK_SERVER", "http://127.0.0.1:1")
    for arguments in (("--server", idle.url, "version"), ("version", "--server", idle.url), ("version", f"--server={idle.url}")):
        assert idle.url in penstock(*arguments).out


@pytest.mark.parametrize("arguments", [["--server", "http://x", "migrate"], ["migrate", "--server", "http://x"], ["demo", "--server=x"]])
def test_commands_that_know_no_server_say_so(penstock: Command, arguments: list[str]) -> None:
    """invalid_option, and which commands do."""
    outcome = penstock(*arguments, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (2, "invalid_option")
    assert "works on this machine only" in penstock(*arguments).err


@pytest.mark.parametrize("arguments", [["import", "--resume"], ["import", "users", "users.csv", "--resume"], ["jobs"]])
def test_what_a_server_cannot_do_is_refused(
    penstock: Command, imports: FakeImports, users_csv: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on with whatever others left there; and an address that is none. Nothing is asked here instead."""
    monkeypatch.setenv("PENSTOCK_SERVER", "localhost:8080")
    outcome = penstock(*arguments)
    assert outcome.status == 2
    assert "(invalid_option)" in outcome.err
    assert not imports.created


def test_a_server_that_is_not_there(penstock: Command, users_csv: Path) -> None:
    """Status 1, one line that says what to do, and the same as JSON."""
    url = f"http://127.0.0.1:{free_port()}"
    done = penstock("import", "users", users_csv, "--server", url)
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith(f"error: No answer from {url}")
    assert "penstock serve" in done.err
    done = penstock("doctor", "--json", "--server", url)
    assert (done.status, done.json["ok"]) == (1, False)


def test_what_is_sent_is_shown(idle: Served, tmp_path: Path) -> None:
    """On a terminal, a bar for the sending, and then one for the import."""
    path = tmp_path / "users.csv"
    path.write_text("email,name\n" + "".join(f"u{n}@example.com,U\n" for n in range(200_000)))
    with terminal(command("good", "import", "users", path, "--server", idle.url), tmp_path) as screen:
        screen.read_until("sent")
        screen.read_until("0 rows")
        screen.process.send_signal(signal.SIGTERM)
        assert screen.wait() == 130


def test_environment_of_the_tests_names_no_server(tmp_path: Path) -> None:
    """Otherwise the others would test something else."""
    assert "PENSTOCK_SERVER" not in environment(tmp_path)
    done = subprocess.run(command("good", "jobs"), capture_output=True, cwd=tmp_path, env=environment(tmp_path), check=False, timeout=30)
    assert done.stdout == b"No jobs.\n"
