"""Installing the queue, waking workers in the caller's transaction, and clearing away what it no longer needs."""

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from penstock.database.connect import Database
from penstock.database.migrate import holding_migration_lock
from penstock.database.queries import load
from penstock.database.sqlstates import translated
from penstock.jobs.model import JobId, JobType
from penstock.logs import get_logger

Connection = psycopg.Connection[Any]
SQL = load("penstock.queue", "queue.sql")

QUEUE_NAME, TASK_NAME = "penstock", "penstock.run"
VERSION = 2  # the newest that is understood of an entry's payload: {"job_id", "version"}
# The version that first knew jobs of this type: an older worker leaves the others to newer ones.
_KNOWN_SINCE = {JobType.IMPORT: 1, JobType.EXPORT: 2}
WORKER_SECONDS = 60  # a worker of the queue that was silent for so long is gone
_SEARCH_PATH = "penstock, pg_temp"


class Queue:
    """May be used by several threads. What it raises is psycopg's, but where it says otherwise."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        return self._database

    def install(self, connection: Connection) -> list[str]:
        """Bring the queue's tables up to date; the names of what was applied. Takes a connection in autocommit mode, after `migrate`.

        Any number of processes may call this at once. Raises DatabaseError.
        """
        assert connection.autocommit
        with translated("bringing the queue up to date"):
            if not _missing(connection):
                return []
            with holding_migration_lock(connection):
                applied = _installed(connection)
        get_logger(__name__).info("queue brought up to date", applied=len(applied), newest=applied[-1] if applied else None)
        return applied

    def wake(self, connection: Connection, job_id: JobId, type: JobType) -> None:  # noqa: A002 - what everybody calls it
        """Hand the job to whichever worker is free, once the caller's transaction commits; never if it does not."""
        self.wake_all(connection, [job_id], type)

    def wake_all(self, connection: Connection, job_ids: Collection[JobId], type: JobType) -> None:  # noqa: A002 - as above
        """The same for several jobs of one type."""
        if job_ids:
            values = {"queue": QUEUE_NAME, "task": TASK_NAME, "version": _KNOWN_SINCE[type], "job_ids": [str(job_id) for job_id in job_ids]}
            connection.execute(SQL["wake"], values)

    def tidy(self, connection: Connection) -> int:
        """Remove entries that tell nothing any more, at most a thousand; how many."""
        values = {"queue": QUEUE_NAME, "worker_seconds": WORKER_SECONDS}
        removed = connection.execute(SQL["tidy_entries"], values).rowcount
        connection.execute(SQL["tidy_workers"], values)
        return removed


def _folder() -> Path:
    """Where Procrastinate keeps its SQL, without importing it."""
    spec = find_spec("procrastinate")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "sql"


def _missing(connection: Connection) -> list[str]:
    """Names of Procrastinate's migrations that this database has not seen, in order."""
    applied = {name for (name,) in connection.execute(SQL["applied"])}
    return sorted(path.name for path in (_folder() / "migrations").glob("*.sql") if path.name not in applied)


def _installed(connection: Connection) -> list[str]:
    """Where there is nothing, Procrastinate's whole schema: that is what all its migrations of today come to. Else one by one."""
    missing = _missing(connection)
    if missing and connection.execute(SQL["is_installed"]).fetchone() == (False,):
        _apply(connection, _folder() / "schema.sql", missing)
        return missing
    for name in missing:
        _apply(connection, _folder() / "migrations" / name, [name])
    return missing


def _apply(connection: Connection, file: Path, names: list[str]) -> None:
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', '5s', true), set_config('search_path', 'penstock', true)")
        connection.execute(file.read_bytes())
        connection.execute(SQL["note"], {"names": names})
        _pin_functions(connection)


def _pin_functions(connection: Connection) -> None:
    """Give its functions a search_path of their own: they are called from transactions whose search_path belongs to others."""
    for (signature,) in connection.execute(SQL["functions"]).fetchall():
        statement = sql.SQL("ALTER FUNCTION {} SET search_path = {}").format(sql.SQL(signature), sql.SQL(_SEARCH_PATH))
        connection.execute(statement)
