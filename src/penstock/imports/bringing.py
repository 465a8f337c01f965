"""A job's file from its URL into storage, by the attempt that imports it."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.database.jsonb import jsonb
from penstock.errors import PenstockError
from penstock.imports.books import Apart
from penstock.imports.ledger import SQL
from penstock.imports.origin import same_bytes, source_row
from penstock.lifecycle.claiming import Claim
from penstock.settings import Settings
from penstock.sources import Sources
from penstock.sources.places import InStorage, RemoteUrl, place_of
from penstock.storage.model import Key

Connection = psycopg.Connection[Any]


class _Stop(threading.Event):
    """Set as soon as the attempt must stop, whatever the reason; who waits for it looks twice a second."""

    def __init__(self, guard: Callable[[], None]) -> None:
        super().__init__()
        self._guard = guard

    def is_set(self) -> bool:
        try:
            self._guard()
        except PenstockError:
            return True
        return False

    def wait(self, timeout: float | None = None) -> bool:
        left = float("inf") if timeout is None else timeout
        while not self.is_set() and left > 0:
            super().wait(min(left, 0.5))
            left -= 0.5
        return self.is_set()


class _Counted:
    def __init__(self, chunks: Iterator[bytes], guard: Callable[[], None]) -> None:
        self._chunks = chunks
        self._guard = guard
        self._digest = hashlib.sha256()
        self.size = 0  # bytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._guard()
            self.size += len(chunk)
            self._digest.update(chunk)
            yield chunk


def bring(sources: Sources, settings: Settings, claim: Claim, place: RemoteUrl, apart: Apart, guard: Callable[[], None]) -> Claim:  # noqa: PLR0917 - what an attempt has at hand
    """Fetch the file; the claim with the object as its source, as the ledger has it now.

    Raises DownloadFailedError, ForbiddenUrlError, PayloadTooLargeError, StorageError and what `guard` raises. An attempt that dies leaves
    an object that its row in `penstock.files` names; the next attempt fetches to another key.
    """
    guard()
    key = Key(f"sources/{claim.job_id}/{claim.epoch}/data")
    if (known := _noted(claim, key, place.name, apart)) is not None:
        return msgspec.structs.replace(claim, source=known)
    counted, name = _fetched(sources, settings, key, place, guard)
    reach(CrashPoint.SOURCE_FETCHED)
    there = InStorage(key=key, name=name)
    source = sources.open(there)
    row = source_row(there, source, source.fingerprint())

    def settle(connection: Connection) -> None:
        values = {"job_id": claim.job_id, "resource": claim.resource, "fingerprint": row["fingerprint"]}
        warnings = same_bytes(connection, values)
        _execute(connection, "settle_file", {"key": key, "size": counted.size, "sha256": counted.sha256})
        _execute(connection, "store_source", {**values, "source": jsonb(row), "total_bytes": source.size, "warnings": jsonb(warnings)})

    apart(settle)
    return msgspec.structs.replace(claim, source=row)


def _noted(claim: Claim, key: Key, name: str, apart: Apart) -> dict[str, Any] | None:
    """Note what will be fetched. The source, where the ledger has it already: an outage hid from the pass before that it had settled it."""
    known: list[dict[str, Any]] = []

    def note(connection: Connection) -> None:
        known.clear()
        row = connection.execute(SQL["source"], {"job_id": claim.job_id}).fetchone()
        assert row is not None
        if isinstance(place_of(row[0]), RemoteUrl):
            _execute(connection, "note_file", {"key": key, "name": name, "job_id": claim.job_id})
        else:
            known.append(row[0])

    apart(note)
    return known[0] if known else None


def _fetched(sources: Sources, settings: Settings, key: Key, place: RemoteUrl, guard: Callable[[], None]) -> tuple[_Counted, str]:
    from penstock.sources.fetching import fetch  # noqa: PLC0415 - an HTTP client, which an import of a local file does not need

    try:
        with fetch(
            place.url,
            allowed=settings.file_url_allowed_networks,
            max_bytes=settings.max_upload_bytes,
            total_seconds=settings.upload_total_seconds,
            cancel=_Stop(guard),
        ) as fetched:
            counted = _Counted(fetched.chunks, guard)
            sources.storage.write(key, counted)
            return counted, fetched.name
    except PenstockError:
        guard()  # a fetch that was told to stop says that it failed
        raise


def _execute(connection: Connection, statement: str, values: dict[str, Any]) -> None:
    connection.execute(SQL[statement], values)
