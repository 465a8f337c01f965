"""The embedded server: shared by processes, and none of their deaths, nor its own, loses data or leaves a mess."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from penstock.database.accounts import programs_folder
from penstock.database.embedded import EmbeddedPostgres
from penstock.database.locks import open_lock, try_lock
from penstock.database.processes import alive
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError
from tests.support.waiting import gone

_SECONDS = 30
_USER = """
import sys
from pathlib import Path
from penstock.database.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), sync=False).start()
print(server.conninfo, flush=True)
sys.stdin.read()
print(server.stop(), flush=True)
"""


class User:
    """Another process with a share in the server."""

    def __init__(self, data_dir: Path, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", _USER, data_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def started(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> str:
        """What its `stop` gave."""
        out, err = self.process.communicate("", timeout=_SECONDS)
        assert self.process.returncode == 0, err
        return out.strip()

    def kill(self) -> None:
        """Does nothing to one that has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=_SECONDS)


@pytest.fixture
def user(data_dir: Path) -> Iterator[Callable[[], User]]:
    with contextlib.ExitStack() as stack:

        def start() -> User:
            made = User(data_dir)
            stack.callback(made.kill)
            assert made.started()
            return made

        yield start


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def remember(server: EmbeddedPostgres, word: str) -> None:
    with psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", [word])


def remembered(server: EmbeddedPostgres) -> list[str]:
    with psycopg.connect(server.conninfo) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


def test_it_is_durable_private_and_the_same_everywhere(data_dir: Path) -> None:
    """It syncs, has no TCP, the folder is closed to others, text is UTF-8 in code point order, time is UTC."""
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.conninfo) as connection:
        names = ("fsync", "full_page_writes", "listen_addresses", "server_encoding", "TimeZone", "unix_socket_permissions")
        found = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
        assert found == [("on",), ("on",), ("",), ("UTF8",), ("UTC",), ("0700",)]
        assert connection.execute("SELECT 'B' < 'a', lower('Ä')").fetchone() == (True, "ä")
        assert connection.info.dbname == "penstock"
        assert data_dir.stat().st_mode & 0o077 == 0
        assert (data_dir / "postgres").stat().st_mode & 0o077 == 0


def test_stop_ends_it_and_the_data_stay(data_dir: Path) -> None:
    """After the last share is given back nothing runs; the next start finds everything."""
    with EmbeddedPostgres(data_dir, sync=False) as server:
        remember(server, "kept")
        pid = postmaster(data_dir)
    assert not alive(pid)
    with EmbeddedPostgres(data_dir) as server:
        assert remembered(server) == ["kept"]
        assert server.stop() is True
        assert server.stop() is False


def test_two_processes_share_one_server(data_dir: Path, user: Callable[[], User]) -> None:
    """The second one finds the server of the first; the first may go, the last stops it."""
    first, second = user(), user()
    pid = postmaster(data_dir)
    assert first.leave() == "False"
    assert alive(pid)
    assert second.leave() == "True"
    assert not alive(pid)


def test_many_start_at_once(data_dir: Path) -> None:
    """Of four processes that start on an empty folder one makes the cluster and all use it."""
    users = [User(data_dir) for _ in range(4)]
    try:
        assert len({other.started() for other in users}) == 1
        assert sorted(other.leave() for other in users) == ["False", "False", "False", "True"]
    finally:
        for other in users:
            other.kill()


def test_a_killed_process_holds_no_share(data_dir: Path, user: Callable[[], User]) -> None:
    """After kill -9 of one of two users the other is the last, and stops the server."""
    killed, other = user(), user()
    killed.kill()
    pid = postmaster(data_dir)
    assert alive(pid)
    assert other.leave() == "True"
    assert not alive(pid)


def test_when_all_are_killed_the_next_adopts_the_server(data_dir: Path, user: Callable[[], User]) -> None:
    """The same postmaster goes on, and is stopped at the end of the one that found it."""
    first, second = user(), user()
    pid = postmaster(data_dir)
    first.kill()
    second.kill()
    server = EmbeddedPostgres(data_dir).start()
    assert postmaster(data_dir) == pid
    assert server.stop() is True
    assert gone(pid)


def test_ctrl_c_does_not_reach_the_server(data_dir: Path, user: Callable[[], User]) -> None:
    """It runs in a session of its own, so that a terminal's signals are for Penstock alone."""
    first = user()
    assert os.getsid(postmaster(data_dir)) != os.getsid(first.process.pid)
    assert os.getpgid(postmaster(data_dir)) != os.getpgid(first.process.pid)


def test_a_killed_postmaster_is_started_again(data_dir: Path) -> None:
    """After kill -9, with connections open and its pid file and orphans left behind, the next start recovers what was committed."""
    first = EmbeddedPostgres(data_dir).start()
    remember(first, "committed")
    open_connections = [psycopg.connect(first.conninfo) for _ in range(3)]
    pid = postmaster(data_dir)
    os.kill(pid, signal.SIGKILL)
    with EmbeddedPostgres(data_dir) as second:
        assert postmaster(data_dir) != pid
        assert remembered(second) == ["committed"]
        for connection in open_connections:
            connection.close()
        assert first.stop() is False
        assert remembered(second) == ["committed"]


def test_a_zombie_is_not_taken_for_a_server(data_dir: Path) -> None:
    """In a container whose first process reaps nobody a dead postmaster keeps its id; its pid file is stale all the same."""
    EmbeddedPostgres(data_dir, sync=False).start().stop()
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    stale = f"{zombie.pid}\n{data_dir}/postgres\n1\n5432\n.\n\n 1 1\nready   \n"
    (data_dir / "postgres" / "postmaster.pid").write_text(stale)
    (data_dir / "postgres" / ".s.PGSQL.5432.lock").write_text(stale)
    with EmbeddedPostgres(data_dir) as server:
        psycopg.connect(server.conninfo).close()
    zombie.wait()


@pytest.mark.parametrize("content", ["1\n", "999999999\n", "", "not a number\n", "-1\n"])
def test_a_stale_pid_file_does_not_stop_it(data_dir: Path, content: str) -> None:
    """Whether the id is another program's (after a restart of the machine), nobody's, or no id at all."""
    EmbeddedPostgres(data_dir, sync=False).start().stop()
    (data_dir / "postgres" / "postmaster.pid").write_text(content)
    with EmbeddedPostgres(data_dir) as server:
        psycopg.connect(server.conninfo).close()


def test_a_copy_does_not_use_the_server_of_the_original(data_dir: Path) -> None:
    """A copy of a running folder holds the pid file of the original's server; it must get one of its own."""
    copy = data_dir.parent / "copy"
    with EmbeddedPostgres(data_dir) as original:
        remember(original, "original")
        with psycopg.connect(original.conninfo, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        shutil.copytree(data_dir, copy, ignore=shutil.ignore_patterns(".s.PGSQL.5432"))
        with EmbeddedPostgres(copy) as second:
            remember(second, "copy")
            assert postmaster(copy) != postmaster(data_dir)
        assert remembered(original) == ["original"]


def test_the_folder_may_be_moved(data_dir: Path) -> None:
    """Nothing in it knows where it stands."""
    with EmbeddedPostgres(data_dir, sync=False) as server:
        remember(server, "moved")
    moved = data_dir.rename(data_dir.with_name("elsewhere"))
    with EmbeddedPostgres(moved) as server:
        assert remembered(server) == ["moved"]


def test_the_folder_may_be_moved_under_a_running_server(data_dir: Path, user: Callable[[], User]) -> None:
    """Even then the server is found, and stopped."""
    left = user()
    pid = postmaster(data_dir)
    left.kill()
    moved = data_dir.rename(data_dir.with_name("elsewhere"))
    with EmbeddedPostgres(moved) as server:
        assert postmaster(moved) == pid
        psycopg.connect(server.conninfo).close()
    assert gone(pid)


@pytest.mark.parametrize("name", ["with space", "a" * 120, "a,b", "quote'\"$(x)`y`\\", "ümlaut"])
def test_any_folder_name_will_do(data_dir: Path, name: str) -> None:
    """Spaces, quotes, commas (libpq takes them for a list of hosts), and paths longer than a socket may have."""
    with EmbeddedPostgres(data_dir / name, sync=False) as server, psycopg.connect(server.conninfo) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_file_in_the_way_is_a_clear_error(data_dir: Path) -> None:
    """The message names the path and the setting."""
    data_dir.write_text("")
    with pytest.raises(DatabaseUnavailableError, match="PENSTOCK_DATA_DIR") as raised:
        EmbeddedPostgres(data_dir).start()
    assert str(data_dir) in raised.value.message


def test_a_failing_start_shows_what_the_server_said(data_dir: Path) -> None:
    """The tail of the log stands in the error, and no share is held afterwards."""
    EmbeddedPostgres(data_dir, sync=False).start().stop()
    with pytest.raises(DatabaseUnavailableError, match=r'did not start.*\n.*"shared_buffers"'):
        EmbeddedPostgres(data_dir, options={"shared_buffers": "nonsense"}).start()
    lock = open_lock(data_dir / "postgres.users.lock")
    assert try_lock(lock)
    os.close(lock)


def test_a_cluster_of_another_version_is_refused(data_dir: Path) -> None:
    """PostgreSQL cannot read the files of another major version; the message says what can be done."""
    EmbeddedPostgres(data_dir, sync=False).start().stop()
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseRefusedError, match="holds a PostgreSQL 17 cluster"):
        EmbeddedPostgres(data_dir).start()
    (data_dir / "postgres" / "PG_VERSION").write_text("18\n")


def test_half_a_cluster_is_swept_away(data_dir: Path) -> None:
    """What an interrupted first start left does not stop the next."""
    left = data_dir / "postgres.new-abc"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir, sync=False) as server:
        psycopg.connect(server.conninfo).close()
    assert not left.exists()


def test_a_failed_making_leaves_nothing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When initdb fails its half cluster is removed, and the message holds what it said."""
    monkeypatch.setattr("penstock.database.cluster._INIT_OPTIONS", ("--encoding=NONSENSE",))
    with pytest.raises(DatabaseUnavailableError, match="NONSENSE"):
        EmbeddedPostgres(data_dir).start()
    assert not list(data_dir.glob("postgres.new-*"))


def test_the_log_holds_no_records(data_dir: Path) -> None:
    """Neither the key of a unique violation nor the text of a failed statement is written down."""
    with EmbeddedPostgres(data_dir, sync=False) as server, psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (email text PRIMARY KEY)")
        connection.execute("INSERT INTO people VALUES ('secret@example.com')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO people VALUES ('secret@example.com')")
    log = (data_dir / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "secret" not in log


def test_a_big_log_is_put_aside(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log and one before it: it does not grow for ever."""
    EmbeddedPostgres(data_dir, sync=False).start().stop()
    monkeypatch.setattr("penstock.database.cluster._LOG_BYTES", 100)
    before = (data_dir / "postgres.log").read_text()
    EmbeddedPostgres(data_dir).start().stop()
    assert (data_dir / "postgres.log.1").read_text() == before


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@root_only
def test_root_leaves_files_of_root_in_a_namespace(data_dir: Path) -> None:
    """No other user owns anything, and no permission above the folder changes."""
    above = data_dir.parent.stat().st_mode
    with EmbeddedPostgres(data_dir, sync=False):
        assert (data_dir / "postgres" / "base").stat().st_uid == 0
    assert data_dir.parent.stat().st_mode == above


@root_only
def test_without_namespaces_an_unprivileged_user_runs_it(data_dir: Path) -> None:
    """The data stay where they are told to be, also below closed folders; recovery and stop work; a namespace is no longer used for it."""
    with EmbeddedPostgres(data_dir, sync=False, namespaces=False) as server:
        remember(server, "kept")
        pid = postmaster(data_dir)
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        os.kill(pid, signal.SIGKILL)
        with EmbeddedPostgres(data_dir, namespaces=False) as again:
            assert remembered(again) == ["kept"]
    with EmbeddedPostgres(data_dir) as later:
        assert remembered(later) == ["kept"]
        assert (data_dir / "postgres").stat().st_uid != 0


@root_only
def test_a_cluster_made_in_a_namespace_moves_to_a_kernel_without(data_dir: Path) -> None:
    """Root's files are handed to the user who must run it now."""
    with EmbeddedPostgres(data_dir, sync=False) as server:
        remember(server, "kept")
    with EmbeddedPostgres(data_dir, namespaces=False) as server:
        assert remembered(server) == ["kept"]


@root_only
def test_an_ordinary_user_runs_it_directly(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No namespace, no other user; the files are the user's own."""
    home = Path("/tmp") / f"penstock-home-{os.getpid()}"
    home.mkdir()
    os.chown(home, 65534, 65534)
    try:
        if not os.access(programs_folder(), os.X_OK):
            pytest.skip("the virtual environment cannot be reached by others")
        first = User(home / "data", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        conninfo = first.started()
        if not conninfo:
            _out, err = first.process.communicate(timeout=_SECONDS)
            pytest.fail(err)
        assert (home / "data" / "postgres").stat().st_uid == 65534
        assert first.leave() == "True"
    finally:
        shutil.rmtree(home)


@root_only
def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """For a user who lacks the right; the message names the folder and the setting."""
    closed = Path("/tmp") / f"penstock-closed-{os.getpid()}"
    closed.mkdir(mode=0o555)
    try:
        other = User(closed / "data", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        _out, err = other.process.communicate("", timeout=_SECONDS)
        assert "Permission denied" in err
        assert "Set PENSTOCK_DATA_DIR to a folder" in err
    finally:
        closed.rmdir()
