"""Bring Penstock's own tables up to date: `migrations/NNNN_name.sql`, in the order of their numbers, each once and in its own transaction.

A migration must be safe for a running older version of Penstock: add, backfill, and remove only in a later release. A database that is
ahead of the code is therefore accepted: that is a deployment under way.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from penstock.database.sqlstates import is_conflict, translate
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError
from penstock.logs import get_logger

FOLDER = Path(__file__).with_name("migrations")
# The key of the session lock that one migrating process holds; any number that no other application of the database takes.
LOCK_KEY = 0x70656E73746F636B  # "penstock"
_LOCK_WAIT_SECONDS = 60.0
_TRIES = 5
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_LEDGER = """
CREATE TABLE IF NOT EXISTS penstock.migrations (
    number integer PRIMARY KEY CHECK (number > 0),
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""
# Waiting for a lock, a migration holds up everybody who comes after it; better to give way and try again.
_LIMITS = "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '15min', true)"


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: bytes

    @property
    def sha256(self) -> str:
        """Of the text with plain line ends, so that a checkout on another system counts as the same."""
        return hashlib.sha256(self.sql.replace(b"\r\n", b"\n")).hexdigest()


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """The migrations in the folder, by number. Raises ValueError for a file that is no migration, or a number given twice or left out."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        if not (match := _NAME.fullmatch(path.name)):
            raise ValueError(f"{path.name} is not NNNN_name.sql")
        found.append(Migration(int(match[1]), match[2], path.read_bytes()))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations must be numbered 0001, 0002, ... without gaps or doubles")
    return found


def migrate(connection: psycopg.Connection, folder: Path = FOLDER, *, wait_seconds: float = _LOCK_WAIT_SECONDS) -> list[str]:
    """Apply what is missing; the names of what was applied. Takes a connection in autocommit mode that no pooler shares out by transaction.

    Any number of processes may call this at once. Raises DatabaseRefusedError where an applied file has changed or a statement fails, and
    DatabaseUnavailableError where others hold the locks for too long.
    """
    assert connection.autocommit
    known = migrations(folder)
    try:
        if not _missing(known, _applied(connection)):
            return []
        with holding_migration_lock(connection, wait_seconds):
            _make_ledger(connection)
            return [_apply(connection, migration) for migration in _missing(known, _applied(connection))]
    except psycopg.Error as error:
        raise translate(error, doing="bringing the tables of Penstock up to date") from error


def _applied(connection: psycopg.Connection) -> dict[int, tuple[str, str]]:
    """Number -> name and sha256. Empty where there is no table yet, which is asked first: an error would end up in the server's log."""
    if connection.execute("SELECT to_regclass('penstock.migrations')").fetchone() == (None,):
        return {}
    return {number: (name, sha256) for number, name, sha256 in connection.execute("SELECT number, name, sha256 FROM penstock.migrations")}


def _make_ledger(connection: psycopg.Connection) -> None:
    # IF NOT EXISTS asks for the right to make schemas even where there is nothing to make; a careful owner gives only the schema.
    if connection.execute("SELECT to_regnamespace('penstock')").fetchone() == (None,):
        connection.execute("CREATE SCHEMA penstock")
    connection.execute(_LEDGER)


def _missing(known: list[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    for migration in known:
        name, sha256 = applied.get(migration.number, (migration.name, migration.sha256))
        if sha256 != migration.sha256:
            raise DatabaseRefusedError(
                f"Migration {migration.number:04} was applied as {name} with another content than {migration.name} has in this version of "
                "Penstock. Run the version that this database belongs to; an applied migration is never edited, a new one mends it.",
                number=migration.number,
            )
    if ahead := sorted(set(applied) - {migration.number for migration in known}):
        get_logger(__name__).warning(
            "the database is newer than this version of Penstock", ahead=[f"{n:04}_{applied[n][0]}" for n in ahead]
        )
    return [migration for migration in known if migration.number not in applied]


@contextmanager
def holding_migration_lock(connection: psycopg.Connection, wait_seconds: float = _LOCK_WAIT_SECONDS) -> Iterator[None]:
    """Only one process changes Penstock's tables at a time. Raises DatabaseUnavailableError where others hold the lock for too long.

    Asked for again and again, not waited for: a waiting statement holds a snapshot, which CREATE INDEX CONCURRENTLY waits for.
    """
    deadline = time.monotonic() + wait_seconds
    while connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise DatabaseUnavailableError(
                f"Another process has been migrating this database for over {wait_seconds:.0f} s. Try again later."
            )
        time.sleep(0.1)
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # on a connection that broke the lock is gone anyway
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])


def _apply(connection: psycopg.Connection, migration: Migration) -> str:
    for tries_left in reversed(range(_TRIES)):
        try:
            with connection.transaction():
                connection.execute(_LIMITS)
                connection.execute(migration.sql)
                connection.execute(
                    "INSERT INTO penstock.migrations (number, name, sha256) VALUES (%s, %s, %s)",
                    [migration.number, migration.name, migration.sha256],
                )
        except psycopg.Error as error:
            if not tries_left or not is_conflict(error):
                raise
            time.sleep(0.5)
        else:
            break
    get_logger(__name__).info("migration applied", number=migration.number, migration=migration.name)
    return f"{migration.number:04}_{migration.name}"
