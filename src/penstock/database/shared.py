"""What all processes on one database share and nobody configures."""

import secrets

from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.database.sqlstates import translated

SQL = load("penstock.database", "shared.sql")
_SECRET_BYTES = 32


def found_value(database: Database, name: str) -> str | None:
    """The value under this name, if there is one. Raises DatabaseError."""
    with database.connection() as connection, translated("reading what all servers share"):
        row = connection.execute(SQL["read_shared"], {"name": name}).fetchone()
    return None if row is None else str(row[0])


def shared_value(database: Database, name: str, proposed: str) -> str:
    """The value under this name: `proposed` if there was none. Raises DatabaseError."""
    with database.connection() as connection, translated("reading what all servers share"):
        row = connection.execute(SQL["read_shared"], {"name": name}).fetchone()
        if row is None:
            connection.execute(SQL["keep_shared"], {"name": name, "value": proposed})
            row = connection.execute(SQL["read_shared"], {"name": name}).fetchone()
    assert row is not None
    value: str = row[0]
    return value


def replace_shared_value(database: Database, name: str, value: str) -> None:
    """Raises DatabaseError."""
    with database.connection() as connection, translated("writing what all servers share"):
        connection.execute(SQL["replace_shared"], {"name": name, "value": value})


def shared_secret(database: Database, name: str) -> bytes:
    """Random bytes that every process on this database gets alike. Raises DatabaseError."""
    return bytes.fromhex(shared_value(database, name, secrets.token_hex(_SECRET_BYTES)))
