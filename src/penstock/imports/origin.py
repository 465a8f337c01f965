"""Where a job's file comes from, as the ledger keeps it."""

from pathlib import Path
from typing import Any

import msgspec
import psycopg

from penstock.errors import InvalidSourceError
from penstock.imports.ledger import SQL
from penstock.sources import Source
from penstock.sources.places import LocalFile, Place, RemoteUrl


def local_place(path: str) -> LocalFile:
    """A file of this machine by any path to it. Raises InvalidSourceError for a name that no text can hold."""
    try:
        path.encode()
    except UnicodeEncodeError as fault:
        raise InvalidSourceError("The file's name is not valid UTF-8, so the job cannot note it: rename the file.") from fault
    return LocalFile(path=str(Path(path).absolute()))


def source_row(place: Place, source: Source, fingerprint: str) -> dict[str, Any]:
    """The place with name, size in bytes and fingerprint."""
    row: dict[str, Any] = msgspec.to_builtins(place)
    return row | {"name": source.name, "size": source.size, "fingerprint": fingerprint}


def unfetched_row(place: RemoteUrl) -> dict[str, Any]:
    """The same for a file that nobody has seen yet."""
    row: dict[str, Any] = msgspec.to_builtins(place)
    return row | {"size": 0, "fingerprint": ""}


def same_bytes(connection: psycopg.Connection[Any], values: dict[str, Any]) -> list[str]:
    """The warning that another job imported this file, by `fingerprint`, `resource` and `job_id`."""
    row = connection.execute(SQL["same_bytes"], values).fetchone()
    return [] if row is None else [f"Job {row[0]} imported the same bytes before, finished {row[1]:%Y-%m-%d %H:%M:%S}Z."]
