"""`penstock export` as a process: signals, closed pipes, terminals, kills and cut streams leave no file that is not whole."""

import array
import fcntl
import os
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.cli.test_processes import PATIENCE_SECONDS, environment, terminal
from tests.client.conftest import ScriptedServer, streaming
from tests.support.commands import PROGRAM, Penstock
from tests.support.postgres import TestServer
from tests.support.proxy import Proxy
from tests.support.waiting import until

ROWS = 30_000
_PIPE_BYTES = 65_536  # that a pipe of Linux holds
_LOCK_SECONDS = 10.0  # after which PostgreSQL ends by itself what waits for a lock


@pytest.fixture(scope="module")
def conninfo(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with users."""
    with postgres.fresh_database() as found:
        penstock = Penstock(tmp_path_factory.mktemp("setup"))
        assert penstock("export", "users", "/dev/null", env={"DATABASE_URL": found}).returncode == 0  # makes the tables
        penstock.end()
        with psycopg.connect(found) as connection:
            connection.execute(
                "INSERT INTO users (email, name) SELECT 'u' || n || '@example.com', 'U' FROM generate_series(1, %s) AS n", [ROWS]
            )
        yield found


@contextmanager
def _held_up(conninfo: str) -> Iterator[psycopg.Connection]:
    """Nobody can read addresses, which is the first that is asked for the pieces of an export."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("LOCK addresses IN ACCESS EXCLUSIVE MODE")
        yield connection


def _waits(connection: psycopg.Connection) -> bool:
    found = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    connection.execute("SELECT pg_stat_clear_snapshot()")
    return connection.execute(found).fetchone() is not None


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "penstock-data")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_at_once_and_leaves_nothing(run_penstock: Penstock, conninfo: str, tmp_path: Path, number: signal.Signals) -> None:
    """Status 130 while PostgreSQL has not sent a byte; what it was doing for the export ends too."""
    with _held_up(conninfo) as holding:
        process = run_penstock.start("export", "users", "users.csv", env={"DATABASE_URL": conninfo})
        assert until(lambda: _waits(holding))
        assert [name.startswith(".users.csv.") for name in _left(tmp_path)] == [True]
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, out) == (130, "")
        assert "(cancelled)" in err
        assert _left(tmp_path) == []
        assert until(lambda: not _waits(holding))


def test_a_signal_ends_it_although_nothing_answers(run_penstock: Penstock, conninfo: str, tmp_path: Path) -> None:
    """The network hangs, so the database cannot be told; a file of before stays what it was."""
    (tmp_path / "users.csv").write_text("old")
    with Proxy(conninfo) as proxy, _held_up(conninfo) as holding:
        process = run_penstock.start("export", "users", "users.csv", "--force", env={"DATABASE_URL": proxy.conninfo})
        assert until(lambda: _waits(holding))
        proxy.stall()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 130
    assert _left(tmp_path) == ["users.csv"]
    assert (tmp_path / "users.csv").read_text() == "old"


def _unread(descriptor: int) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, found)
    return found[0]


@pytest.mark.parametrize("target", ["-", "pipe"])
def test_a_signal_ends_it_while_its_reader_takes_nothing(run_penstock: Penstock, conninfo: str, tmp_path: Path, target: str) -> None:
    """`| less`: the write is stuck, and nothing waits for it."""
    os.mkfifo(tmp_path / "pipe")
    process = run_penstock.start("export", "users", target, env={"DATABASE_URL": conninfo})
    assert process.stdout is not None
    reader = os.open(tmp_path / "pipe", os.O_RDONLY) if target == "pipe" else process.stdout.fileno()
    assert until(lambda: _unread(reader) >= _PIPE_BYTES)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130


def test_a_reader_that_goes_away_ends_it_quietly(run_penstock: Penstock, conninfo: str) -> None:
    """`| head`: status 1 as for the other commands, and no word."""
    process = run_penstock.start("export", "users", env={"DATABASE_URL": conninfo})
    assert process.stdout is not None
    assert process.stdout.readline().startswith('{"id":')
    process.stdout.close()
    assert process.wait(PATIENCE_SECONDS) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_named_pipe_whose_reader_goes_away_is_told(run_penstock: Penstock, conninfo: str, tmp_path: Path) -> None:
    """Nobody else would notice."""
    os.mkfifo(tmp_path / "pipe")
    process = run_penstock.start("export", "users", "pipe", env={"DATABASE_URL": conninfo})
    with (tmp_path / "pipe").open("rb") as reader:
        reader.read(10)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "pipe: its reader has gone away" in err


def test_what_a_killed_one_left_goes_with_the_next(run_penstock: Penstock, conninfo: str, tmp_path: Path) -> None:
    """The file of a living one stays, and both come to their end."""
    env = {"DATABASE_URL": conninfo}
    with _held_up(conninfo) as holding:
        killed = run_penstock.start("export", "users", "users.csv", env=env)
        assert until(lambda: _waits(holding))
        killed.kill()
        killed.wait(PATIENCE_SECONDS)
        [leftover] = _left(tmp_path)
        living = run_penstock.start("export", "users", "users.csv", "--force", env=env)
        assert until(lambda: len(_left(tmp_path)) == 1 and leftover not in _left(tmp_path))
        other = run_penstock.start("export", "users", "users.csv", "--force", env=env)
        assert until(lambda: len(_left(tmp_path)) == 2)
    for process in (living, other):
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err
    assert _left(tmp_path) == ["users.csv"]
    assert len((tmp_path / "users.csv").read_bytes().splitlines()) == ROWS + 1


def test_a_disk_that_is_full_is_told_and_nothing_is_left(conninfo: str, tmp_path: Path) -> None:
    """With the name of the file; status 1."""
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 100; exec {PROGRAM} export users users.csv"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path, DATABASE_URL=conninfo),
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 1
    assert "users.csv: File too large (io_error)" in done.stderr
    assert _left(tmp_path) == []


def test_a_database_that_goes_away_leaves_nothing(run_penstock: Penstock, conninfo: str, tmp_path: Path) -> None:
    """While the records are waited for: an outage, status 1."""
    (tmp_path / "users.csv").write_text("old")
    with _held_up(conninfo) as holding:
        process = run_penstock.start("export", "users", "users.csv", "--force", env={"DATABASE_URL": conninfo})
        assert until(lambda: _waits(holding))
        holding.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "(database_unavailable)" in err
    assert (tmp_path / "users.csv").read_text() == "old"
    assert _left(tmp_path) == ["users.csv"]


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_a_stream_that_breaks_off_is_no_file(run_penstock: Penstock, tmp_path: Path, format_: str) -> None:
    """A server's, whose last chunk never comes."""
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.script = [streaming(b"id,email\n", b"1,a@example.com\n")]
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = run_penstock("export", "users", f"users.{format_}", "--server", url)
        server.shutdown()
        thread.join()
    assert done.returncode == 1
    assert "broke off" in done.stderr
    assert "(server_unreachable)" in done.stderr
    assert _left(tmp_path) == []


def test_a_terminal_gets_a_bar_that_goes_away(conninfo: str, tmp_path: Path) -> None:
    """With the records of how many, which are counted for it; then the summary."""
    command = [str(PROGRAM), "export", "users", "users.csv"]
    with _held_up(conninfo) as holding, terminal(command, tmp_path, DATABASE_URL=conninfo) as screen:
        screen.read_until("starting")
        assert until(lambda: _waits(holding))
        holding.rollback()
        assert screen.wait() == 0
        assert "━" in screen.text
        assert screen.text.rindex("\x1b[?25h") < screen.text.index("from users (csv)")
        assert f"{ROWS:,}" in screen.text


def test_a_signal_ends_the_counting_too(conninfo: str, tmp_path: Path) -> None:
    """Which a terminal's bar begins with: PostgreSQL is told, since of a client that has just gone it would hear nothing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        psycopg.connect(conninfo) as holding,
        terminal([str(PROGRAM), "export", "users", "pipe"], tmp_path, DATABASE_URL=conninfo) as screen,
    ):
        screen.read_until("starting")  # and it waits for a reader
        holding.execute("LOCK users IN ACCESS EXCLUSIVE MODE")
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        assert until(lambda: _waits(holding))
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait() == 130
        os.close(reader)
        assert until(lambda: not _waits(holding), _LOCK_SECONDS / 2)


@pytest.mark.parametrize("option", [("--format", "parquet"), ("--compression", "gzip")])
def test_a_terminal_gets_nothing_that_it_cannot_show(conninfo: str, tmp_path: Path, option: tuple[str, str]) -> None:
    """Status 2, and what to do."""
    with terminal([str(PROGRAM), "export", "users", *option], tmp_path, DATABASE_URL=conninfo) as screen:
        assert screen.wait() == 2
        assert "name a FILE" in screen.text
