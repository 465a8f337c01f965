"""A real PostgreSQL for tests: one server for the run, a template with the migrations applied, a fresh clone of it for each test."""

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from penstock.database.connect import Database
from penstock.database.embedded import EmbeddedPostgres
from penstock.database.locks import locked
from penstock.database.migrate import migrate, migrations
from penstock.queue import Queue

# A crash of a process loses nothing without these, only a crash of the machine would.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "max_connections": "60"}
DURABLE = {"max_connections": "60"}
RUN_FOLDER, RUN_ID, EXTERNAL = "PENSTOCK_TEST_RUN_FOLDER", "PENSTOCK_TEST_RUN_ID", "PENSTOCK_TEST_DATABASE_URL"
_LOCK_SECONDS = 100
_LEAK_SECONDS = 5


class TestServer:
    """A server, by the connection string of a role that may make databases."""

    __test__ = False

    def __init__(self, conninfo: str, lock: Path) -> None:
        self.conninfo = conninfo
        self._lock = lock
        self._numbers = itertools.count(1)
        self._prefix = f"penstock_test_{os.environ[RUN_ID]}"

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """A database with the migrations applied, for one test. Fails the test if it left a connection open."""
        template = self._template()
        name = f"{self._prefix}_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.conninfo, autocommit=True) as admin:
            admin.execute(_create(name, template))
        try:
            yield make_conninfo(self.conninfo, dbname=name)
            with psycopg.connect(self.conninfo, autocommit=True) as admin:
                assert (left := _left_open(admin, name)) == [], f"the test left connections open: {left}"
        finally:
            with psycopg.connect(self.conninfo, autocommit=True) as admin:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """A database with nothing in it."""
        name = f"{self._prefix}_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.conninfo, autocommit=True) as admin:
            admin.execute(_create(name, "template0"))
        try:
            yield make_conninfo(self.conninfo, dbname=name)
        finally:
            with psycopg.connect(self.conninfo, autocommit=True) as admin:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _template(self) -> str:
        """The template's name; made by the first test of the run, whatever worker it runs in."""
        state = hashlib.sha256("".join(migration.sha256 for migration in migrations()).encode()).hexdigest()[:8]
        name = f"{self._prefix}_{state}"
        with locked(self._lock, _LOCK_SECONDS), psycopg.connect(self.conninfo, autocommit=True) as admin:
            if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                making = f"{name}_making"
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(making)))
                admin.execute(_create(making, "template0"))
                with psycopg.connect(make_conninfo(self.conninfo, dbname=making), autocommit=True) as connection:
                    migrate(connection)
                    Queue(Database(connection.info.dsn)).install(connection)
                admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(making), sql.Identifier(name)))
        return name


@contextmanager
def running_server(kind: str) -> Iterator[TestServer]:
    """The run's server, `fast` or `durable`: the external one if there is one, else an embedded one that the run's processes share."""
    folder = Path(os.environ[RUN_FOLDER])
    if external := os.environ.get(EXTERNAL):
        yield TestServer(external, folder / "template.lock")
        return
    options = FAST if kind == "fast" else DURABLE
    with EmbeddedPostgres(folder / kind, options=options, sync=kind != "fast") as server:
        yield TestServer(server.conninfo, folder / f"{kind}.template.lock")


def drop_databases_of_run() -> None:
    """Drop what the run left on an external server: its templates, and databases of workers that were killed."""
    if not (external := os.environ.get(EXTERNAL)):
        return
    with psycopg.connect(external, autocommit=True) as admin:
        pattern = f"penstock_test_{os.environ[RUN_ID]}_%"
        names = [name for (name,) in admin.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [pattern]).fetchall()]
        for name in names:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(name: str, template: str) -> sql.Composed:
    # The default strategy (WAL_LOG): 0.03 s to make and 0.02 s to drop; FILE_COPY 0.05 s and 0.01 s.
    return sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))


def _left_open(admin: psycopg.Connection, name: str) -> list[tuple[object, ...]]:
    """Sessions on the database; a backend takes a moment to notice that its client has closed."""
    query = (
        "SELECT application_name, state, left(query, 200) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'penstock%%'"
    )
    deadline = time.monotonic() + _LEAK_SECONDS
    while (left := admin.execute(query, [name]).fetchall()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left
