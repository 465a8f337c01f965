"""The helpers that other tests lean on do what they say, above all when something goes wrong."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from penstock.database.embedded import EmbeddedPostgres
from tests.support import watchdog
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.waiting import gone

_SECONDS = 30


def test_a_run_that_is_killed_leaves_no_server(tmp_path: Path, data_dir: Path) -> None:
    """When the pipe to the run closes, the watchdog ends the servers below its folder and removes the folder."""
    server = EmbeddedPostgres(data_dir, sync=False).start()
    dog = subprocess.Popen([sys.executable, "-S", "-E", watchdog.__file__, data_dir.parent], stdin=subprocess.PIPE)
    psycopg.connect(server.conninfo).close()
    assert dog.stdin is not None
    dog.stdin.close()
    assert dog.wait(_SECONDS) == 0
    assert not data_dir.parent.exists()
    data_dir.mkdir(parents=True)
    server.stop()


def test_a_leaked_connection_fails_the_test(postgres: TestServer) -> None:
    """A session of Penstock that is still open at the end is named."""
    with pytest.raises(AssertionError, match="left connections open"), postgres.fresh_database() as conninfo:
        leaked = psycopg.connect(conninfo, application_name="penstock")
    with pytest.raises(psycopg.OperationalError):
        leaked.execute("SELECT 1")
    leaked.close()


def test_two_databases_share_nothing(postgres: TestServer) -> None:
    """Each is a fresh clone."""
    with postgres.fresh_database() as one, postgres.fresh_database() as other:
        with psycopg.connect(one) as connection:
            connection.execute("CREATE TABLE mine (n int)")
        with psycopg.connect(other) as connection:
            assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_a_command_that_hangs_is_killed(run_penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its children, who would hold its pipes open; and it sees nothing of our environment."""
    script = tmp_path / "hangs"
    script.write_text('#!/bin/sh\necho "$DATABASE_URL$FROM_TEST"\n[ -n "$FROM_TEST" ] && exit 3\nsleep 1000 & echo $! > pid\nwait\n')
    script.chmod(0o755)
    monkeypatch.setattr("tests.support.commands.PROGRAM", script)
    monkeypatch.setenv("DATABASE_URL", "ours")
    done = run_penstock(env={"FROM_TEST": "given"})
    assert (done.returncode, done.stdout) == (3, "given\n")
    with pytest.raises(subprocess.TimeoutExpired):
        run_penstock(timeout=1)
    assert gone(int((tmp_path / "pid").read_text()))
