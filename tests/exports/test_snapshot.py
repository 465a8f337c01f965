"""What an export's connection does where the database, or this process, does not do its part."""

import subprocess
import sys
from typing import Any

import psycopg
import pytest

from penstock.database.connect import Database, Limits
from penstock.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from penstock.exports import snapshot as module
from penstock.exports.snapshot import snapshot
from tests.support.waiting import until

SLEEP = "SELECT pg_sleep(3600)::text"
CHILD = f"""
import sys
from penstock.database.connect import Database
from penstock.exports.snapshot import snapshot
with snapshot(Database(sys.argv[1]), stalled_seconds=90, total_seconds=7200, name="doomed") as opened:
    opened.value({SLEEP!r})
"""


def value(database: Database, statement: str) -> Any:
    with snapshot(database, stalled_seconds=90, total_seconds=600) as opened:
        return opened.value(statement)


def test_a_killed_process_is_noticed(database: str) -> None:
    """Although it was waiting for the first record: what it had asked for does not go on without it."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'doomed' AND query LIKE '%pg_sleep%'"
    with psycopg.connect(database, autocommit=True) as connection:
        process = subprocess.Popen([sys.executable, "-c", CHILD, database])
        try:
            assert until(lambda: connection.execute(sessions).fetchone() == (1,))
        finally:
            process.kill()
            process.wait()
        assert until(lambda: connection.execute(sessions).fetchone() == (0,))


def test_a_server_that_cannot_look_for_its_client(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows it refuses to be told to; the other settings stand."""
    monkeypatch.setattr(module, "CLIENT_CHECK", {"client_connection_check_interval": "-1"})
    assert value(Database(database), "SELECT current_setting('jit')") == "off"


@pytest.mark.parametrize(
    ("statement", "kind", "state"),
    [
        ("SELECT 1 FROM locked", DatabaseUnavailableError, "55P03"),
        ("SELECT 1 FROM nowhere", DatabaseRefusedError, "42P01"),
        ("SELECT pg_terminate_backend(pg_backend_pid())::text", DatabaseUnavailableError, None),
    ],
)
def test_what_may_pass_is_told_from_what_stays(database: str, statement: str, kind: type[DatabaseError], state: str | None) -> None:
    """A table that somebody alters will be there again: a queued export is tried again then, as an import is."""
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE locked ()")
        connection.commit()
        connection.execute("LOCK locked")
        with pytest.raises(kind) as raised:
            value(Database(database, limits=Limits(lock=1)), statement)
    if state is not None:
        assert raised.value.details["sqlstate"] == state
