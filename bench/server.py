"""The PostgreSQL that is loaded into: somebody's, or an embedded one for this run; a fresh database for every load."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.data import FOLDER
from penstock.database.accounts import programs_folder
from penstock.database.embedded import EmbeddedPostgres
from penstock.errors import DatabaseUnavailableError

# The reference's and the peers' table as anybody would make it: the keys that Penstock's has, and nothing else.
_TABLE = """
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name text NOT NULL,
    role text NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
)
"""
# Settings that change the speed of a load; one that is not as PostgreSQL ships it is shown with the results.
_TELLING = (
    *("autovacuum", "checkpoint_timeout", "commit_delay", "fsync", "full_page_writes", "maintenance_work_mem", "max_wal_size"),
    *("shared_buffers", "synchronous_commit", "wal_buffers", "wal_compression", "wal_level", "work_mem"),
)


class Server:
    """A server by the connection string of a role that may make databases, and the psql to go with it."""

    def __init__(self, conninfo: str, psql: Path) -> None:
        self._conninfo = conninfo
        self.psql = psql
        self._numbers = itertools.count(1)
        self.checkpoints = True  # whether the role may ask for them

    @contextmanager
    def database(self, *, with_table: bool) -> Iterator[str]:
        """The connection string of an empty database, dropped at the end; `with_table`: with the bare table `users`."""
        name = f"penstock_bench_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self._conninfo, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            try:
                conninfo = make_conninfo(self._conninfo, dbname=name)
                if with_table:
                    with psycopg.connect(conninfo) as connection:
                        connection.execute(_TABLE)
                yield conninfo
            finally:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def settle(self) -> None:
        """A checkpoint, so that every load begins with the write-ahead log in the same state, and pays for no other load's pages."""
        with psycopg.connect(self._conninfo, autocommit=True) as admin:
            try:
                admin.execute("CHECKPOINT")
            except psycopg.errors.InsufficientPrivilege:
                self.checkpoints = False

    def facts(self) -> dict[str, str]:
        """Versions of the server and psql, and the settings that differ from what PostgreSQL ships with."""
        changed = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) AND setting <> boot_val ORDER BY name"
        with psycopg.connect(self._conninfo, autocommit=True) as admin:
            # wal_buffers is -1 in the file and 1/32 of shared_buffers at run time; that is its default.
            found = [
                f"{name} = {value}" for name, value in admin.execute(changed, [list(_TELLING)]) if (name, value) != ("wal_buffers", "4MB")
            ]
            version = admin.info.parameter_status("server_version") or "of unknown version"
        said = subprocess.run([self.psql, "--version"], check=True, capture_output=True, text=True).stdout
        return {"PostgreSQL": version, "psql": said.split()[2], "settings": ", ".join(found) or "as shipped"}


def count(conninfo: str, table: str = "users") -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


def environment(conninfo: str) -> dict[str, str]:
    """The connection string as libpq's variables: a password has no place in a command line, where everybody can read it."""
    options = pq.Conninfo.parse(conninfo.encode())
    return {o.envvar.decode(): o.val.decode() for o in options if o.envvar and o.val}


def url(conninfo: str) -> str:
    """The connection string as a URL, for loaders that take nothing else. A socket's folder goes where libpq and Go both look for it."""
    rest = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    user, password, name = (quote(rest.pop(key, ""), safe="") for key in ("user", "password", "dbname"))
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    where = "" if rest.get("host", "/").startswith("/") else f"{rest.pop('host')}:{rest.pop('port', '5432')}"
    return f"postgresql://{who}{where}/{name}" + (f"?{urlencode(rest)}" if rest else "")


@contextmanager
def running(given: str | None) -> Iterator[Server]:
    """The server at the connection string, or an embedded one with PostgreSQL's default settings until the end of the run."""
    if given:
        yield Server(given, _psql())
        return
    FOLDER.mkdir(exist_ok=True)
    # Not in the system's temporary folder, which may be in memory.
    with tempfile.TemporaryDirectory(prefix="server-", dir=FOLDER) as folder, EmbeddedPostgres(Path(folder)) as server:
        # Of the server's version; and Debian's is a script that looks for the right one first.
        yield Server(server.conninfo, programs_folder() / "psql")


def _psql() -> Path:
    """The system's first: the wheel's is built without TLS."""
    if found := shutil.which("psql"):
        return Path(found)
    try:
        return programs_folder() / "psql"
    except DatabaseUnavailableError:
        raise SystemExit("psql is not installed: it is what everything is compared with.") from None
