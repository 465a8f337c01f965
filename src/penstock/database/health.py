"""What a server is, what this role may do there, and how far apart the clocks are: facts for those who look after an installation."""

import time
from dataclasses import dataclass

import psycopg

from penstock.database.migrate import migrations
from penstock.database.queries import load
from penstock.database.sqlstates import translate

_SQL = load("penstock.database", "health.sql")


@dataclass(frozen=True, slots=True)
class Health:
    server_version: str
    role: str
    may_create: tuple[str, ...]  # of: schema (in the database), table (in the first schema of the search path)
    missing_migrations: tuple[str, ...]
    skew_seconds: float  # the server's clock minus this machine's, give or take half of `answer_seconds`
    answer_seconds: float  # one round trip


def health(connection: psycopg.Connection) -> Health:
    """Ask the server. Takes a connection in autocommit mode. Raises DatabaseError."""
    assert connection.autocommit
    try:
        version, role, schema, table, has_ledger = connection.execute(_SQL["server_and_rights"]).fetchone() or ("", "", False, False, False)
        applied = {number for (number,) in connection.execute(_SQL["applied_migrations"])} if has_ledger else set()
        before, began = time.time(), time.perf_counter()
        (server_time,) = connection.execute(_SQL["server_clock"]).fetchone() or (before,)
        answer = time.perf_counter() - began
    except psycopg.Error as error:
        raise translate(error, doing="looking at the server") from error
    return Health(
        server_version=version,
        role=role,
        may_create=tuple(name for name, allowed in (("schema", schema), ("table", table)) if allowed),
        missing_migrations=tuple(f"{m.number:04}_{m.name}" for m in migrations() if m.number not in applied),
        skew_seconds=float(server_time) - (before + answer / 2),
        answer_seconds=answer,
    )
