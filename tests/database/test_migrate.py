"""Migrations: each applied once, in order, whole or not at all, whoever else tries at the same time."""

import threading
from pathlib import Path

import psycopg
import pytest

from penstock.database.migrate import LOCK_KEY, migrate, migrations
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE penstock.a (n int);\nINSERT INTO penstock.a VALUES (1);\n")
    (tmp_path / "0002_second.sql").write_text("ALTER TABLE penstock.a ADD COLUMN m int;\n")
    return tmp_path


def connected(conninfo: str) -> psycopg.Connection:
    return psycopg.connect(conninfo, autocommit=True)


def tables(connection: psycopg.Connection) -> list[str]:
    query = (
        "SELECT table_name || '.' || column_name FROM information_schema.columns "
        "WHERE table_schema = 'penstock' AND table_name <> 'migrations'"
    )
    return sorted(name for (name,) in connection.execute(query))


def advisory_locks(connection: psycopg.Connection) -> int:
    """In this database alone: others of the same server have their own, held by whoever tests there."""
    query = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        "WHERE locktype = 'advisory' AND datname = current_database()"
    )
    found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])


def test_they_are_applied_once_and_in_order(empty_database: str, folder: Path) -> None:
    """A second call finds nothing to do."""
    with connected(empty_database) as connection:
        assert migrate(connection, folder) == ["0001_first", "0002_second"]
        assert migrate(connection, folder) == []
        assert tables(connection) == ["a.m", "a.n"]
        assert connection.execute("SELECT number, name FROM penstock.migrations ORDER BY 1").fetchall() == [(1, "first"), (2, "second")]


def test_from_any_earlier_state_the_end_is_the_same(empty_database: str, folder: Path, tmp_path: Path) -> None:
    """A database that stopped at the first migration takes only the second."""
    later = (folder / "0002_second.sql").rename(tmp_path / "later")
    with connected(empty_database) as connection:
        assert migrate(connection, folder) == ["0001_first"]
        later.rename(folder / "0002_second.sql")
        assert migrate(connection, folder) == ["0002_second"]
        assert tables(connection) == ["a.m", "a.n"]


def test_a_failing_one_leaves_no_trace(empty_database: str, folder: Path) -> None:
    """Its transaction takes everything back; those before it stay; the lock is free again."""
    (folder / "0002_second.sql").write_text("CREATE TABLE penstock.b (n int); SELECT 1/0;")
    with connected(empty_database) as connection:
        with pytest.raises(DatabaseRefusedError, match="22012"):
            migrate(connection, folder)
        assert tables(connection) == ["a.n"]
        assert connection.execute("SELECT number FROM penstock.migrations").fetchall() == [(1,)]
        assert advisory_locks(connection) == 0


def test_a_changed_file_is_refused(empty_database: str, folder: Path) -> None:
    """The code and the database have different pasts; nothing is applied. Other line ends are no change."""
    with connected(empty_database) as connection:
        migrate(connection, folder)
        (folder / "0003_third.sql").write_text("CREATE TABLE penstock.c (n int);")
        second = folder / "0002_second.sql"
        second.write_bytes(second.read_bytes().replace(b"\n", b"\r\n"))
        assert migrate(connection, folder) == ["0003_third"]
        second.write_text("-- mended\n")
        (folder / "0004_fourth.sql").write_text("CREATE TABLE penstock.d (n int);")
        with pytest.raises(DatabaseRefusedError, match="Migration 0002 was applied as second with another content"):
            migrate(connection, folder)
        assert "d.n" not in tables(connection)


def test_a_database_ahead_of_the_code_is_accepted(empty_database: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Old and new workers run side by side during a deployment; the log says so."""
    with connected(empty_database) as connection:
        migrate(connection, folder)
        (folder / "0002_second.sql").unlink()
        assert migrate(connection, folder) == []
    assert "0002_second" in capfd.readouterr().err


def test_processes_that_start_together_apply_each_once(empty_database: str, folder: Path) -> None:
    """Those who come late wait for the lock and then find nothing left to do."""
    applied: list[list[str]] = []

    def start() -> None:
        with connected(empty_database) as connection:
            applied.append(migrate(connection, folder))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [[], [], [], ["0001_first", "0002_second"]]


def test_the_wait_for_the_lock_is_bounded(empty_database: str, folder: Path) -> None:
    """Who holds it for ever does not stop the others for ever."""
    with connected(empty_database) as other, connected(empty_database) as connection:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        with pytest.raises(DatabaseUnavailableError, match="Another process has been migrating"):
            migrate(connection, folder, wait_seconds=0)


def test_a_role_with_nothing_but_the_schema_can_migrate(empty_database: str, folder: Path) -> None:
    """The owner of the database may make the schema beforehand and give no other right."""
    with connected(empty_database) as connection:
        role = f"plain_{connection.info.backend_pid}"
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            connection.execute(f"CREATE SCHEMA penstock AUTHORIZATION {role}".encode())
            connection.execute(f"SET ROLE {role}".encode())
            assert len(migrate(connection, folder)) == 2
        finally:
            connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.parametrize("name", ["first.sql", "1_first.sql", "0004_gap.sql", "0002_double.sql", "0003_two words.sql"])
def test_a_misnamed_file_is_a_mistake(folder: Path, name: str) -> None:
    """Found before anything is applied."""
    (folder / name).write_text("")
    with pytest.raises(ValueError, match=r"migration|NNNN"):
        migrations(folder)


def test_the_migrations_of_the_package_apply(database: str) -> None:
    """The database that tests get has all of them."""
    with connected(database) as connection:
        assert connection.execute("SELECT count(*) FROM penstock.migrations").fetchone() == (len(migrations()),)
        assert migrate(connection) == []
