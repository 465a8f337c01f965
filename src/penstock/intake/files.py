"""Files on their way into storage: each is noted in `penstock.files` before its first byte, so that nothing that a crash leaves is lost."""

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.database.sqlstates import translated
from penstock.errors import InvalidStateError, ObjectNotFoundError, PayloadTooLargeError, PenstockError, UploadNotFoundError
from penstock.intake.model import ReceivedFile, Upload
from penstock.jobs.model import JobId
from penstock.logs import get_logger
from penstock.settings import Settings
from penstock.sources.names import file_name
from penstock.storage.model import Key, Method, Storage

SQL = load("penstock.intake", "files.sql")

Connection = psycopg.Connection[Any]
_DAY_SECONDS = 24 * 3600
_ENDING = re.compile(r"(\.(?:csv|tsv|ndjson|jsonl|json|parquet))?(\.(?:gz|gzip|zst|zstd))?\Z", re.IGNORECASE | re.ASCII)


class Files:
    """Every method may raise DatabaseError and StorageError; those that are not `async` must not run on the event loop.

    `storage` opens the storage at its first use and gives the same one after that.
    """

    def __init__(self, database: Database, storage: Callable[[], Storage], settings: Settings) -> None:
        self._database = database
        self._storage = storage
        self._settings = settings

    async def receive(self, name: str, chunks: AsyncIterator[bytes], *, resource: str | None = None) -> ReceivedFile:
        """Store a stream while it arrives. If `chunks` raises, its error comes out and neither object nor row is left.

        Size and digest are noted by `attach`, with the job: a transaction of their own would be one more wait for the disk.
        """
        name = file_name(name, "file")
        key = new_key(name)
        stored = await asyncio.to_thread(self._expecting, key, name, resource)
        counted = Counted(chunks)
        try:
            await stored.put(key, counted)
        except BaseException as error:
            # Also when the client left or the server stops: what was begun is taken back before anything else.
            await asyncio.shield(asyncio.to_thread(self._discard_quietly, key))
            counted.raise_fault(error)
            raise
        return ReceivedFile(key=key, name=name, size=counted.size, sha256=counted.sha256)

    def discard(self, file: ReceivedFile) -> None:
        """Remove a file that no job was made for. An upload is kept: the client may start another import of it."""
        self._discard(file.key)

    def offer(self, filename: str, resource: str | None) -> Upload:
        """A place for a file that the client sends by a signed PUT; the import may be started until a day after the link's end."""
        name = file_name(filename, "file")
        key, upload_id = new_key(name), uuid.uuid4()
        seconds = self._settings.link_seconds
        self._note(key, name, resource, upload_id=upload_id, keep_seconds=seconds + _DAY_SECONDS)
        return Upload(upload_id=upload_id, link=self._storage().sign(Method.PUT, key, timedelta(seconds=seconds)))

    async def accept(self, key: Key, chunks: AsyncIterator[bytes]) -> ReceivedFile:
        """What a client PUTs to the server itself, for a place that was offered. The former content stays if `chunks` raises.

        Raises UploadNotFoundError; InvalidStateError once an import has the file.
        """
        row = await asyncio.to_thread(self._upload, "find_upload_by_key", {"key": key})
        if row["job_id"] is not None:
            raise InvalidStateError("An import has this file already, so it cannot be sent again. Ask for another upload.")
        counted = Counted(chunks)
        try:
            await (await asyncio.to_thread(self._storage)).put(key, counted)
        except Exception as error:
            counted.raise_fault(error)
            raise
        file = ReceivedFile(key=key, name=row["name"], size=counted.size, sha256=counted.sha256)
        await asyncio.to_thread(self._settle, file)
        return file

    def arrived(self, upload_id: uuid.UUID) -> ReceivedFile:
        """The file that a client has sent. Raises UploadNotFoundError, PayloadTooLargeError."""
        row = self._upload("find_upload", {"upload_id": upload_id})
        try:
            found = self._storage().stat(Key(row["key"]))
        except ObjectNotFoundError:
            raise UploadNotFoundError(
                "The file of this upload has not arrived. PUT it to the upload's url first, then start the import.",
                upload_id=str(upload_id),
            ) from None
        limit = self._settings.max_upload_bytes
        if found.size > limit:
            raise PayloadTooLargeError(f"The file has {found.size} bytes; at most {limit} are taken.", limit_bytes=limit, bytes=found.size)
        # The bucket takes a second PUT without asking; what was noted of the first is then not known of this one.
        sha256 = row["sha256"] if row["size"] == found.size else None
        return ReceivedFile(key=Key(row["key"]), name=row["name"], size=found.size, sha256=sha256, resource=row["resource"])

    def attach(self, connection: Connection, file: ReceivedFile, job_id: JobId) -> None:
        """Give the file to a job, in the transaction that creates it. Raises UploadNotFoundError for a file past its time."""
        values = {"key": file.key, "size": file.size, "sha256": file.sha256, "job_id": job_id, "keep_seconds": _DAY_SECONDS}
        if connection.execute(SQL["attach_file"], values).fetchone() is None:
            raise UploadNotFoundError("The file of this upload is past its time. Send it again.")

    def _expecting(self, key: Key, name: str, resource: str | None) -> Storage:
        """The storage for a file that is noted now: both in one thread, since each change of threads waits for the interpreter."""
        stored = self._storage()
        self._note(key, name, resource, keep_seconds=self._settings.upload_total_seconds + _DAY_SECONDS)
        return stored

    def _note(self, key: Key, name: str, resource: str | None, *, keep_seconds: int, upload_id: uuid.UUID | None = None) -> None:
        values = {"key": key, "name": name, "resource": resource, "upload_id": upload_id, "keep_seconds": keep_seconds}
        with self._database.connection() as connection, translated("noting a file"):
            connection.execute(SQL["note_file"], values)

    def _settle(self, file: ReceivedFile) -> None:
        with self._database.connection() as connection, translated("noting a file"):
            connection.execute(SQL["settle_file"], {"key": file.key, "size": file.size, "sha256": file.sha256})

    def _upload(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        with (
            self._database.connection() as connection,
            translated("looking for an upload"),
            connection.cursor(row_factory=dict_row) as rows,
        ):
            row = rows.execute(SQL[query], values).fetchone()
        if row is None:
            raise UploadNotFoundError("There is no such upload, or it is past its time. Ask for another one.")
        return row

    def _discard(self, key: Key) -> None:
        # The object before its row: a row without an object is harmless, an object without a row is never found again. No connection is
        # held meanwhile: storage that answers slowly must not take the pool away from everybody else.
        with self._database.connection() as connection, translated("giving up a file"):
            if connection.execute(SQL["give_up_file"], {"key": key}).fetchone() is None:
                return
        self._storage().delete(key)
        with self._database.connection() as connection, translated("forgetting a file"):
            connection.execute(SQL["forget_file"], {"key": key})

    def _discard_quietly(self, key: Key) -> None:
        try:
            self._discard(key)
        except PenstockError as error:
            # Its row stands, with the time after which housekeeping removes both.
            get_logger(__name__).warning("a file that was not received whole is left to housekeeping", key=key, reason=error.message)


class Counted:
    """A stream, with the size and the digest of what has passed; it remembers the error that ended it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.size = 0  # bytes
        self._fault: Exception | None = None

    def raise_fault(self, error: BaseException | None) -> None:
        """Raise what ended the stream, where storage raises something else instead, which says nothing about the cause.

        Nothing keeps the error after that. An error leads to the frames that it came through, and they to whoever keeps it: in such a
        circle the request, and with it the client's connection, stays until the collector comes by, which is seldom.
        """
        fault, self._fault = self._fault, None
        try:
            if fault is not None and fault is not error:
                raise fault from None
        finally:
            del fault, error

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __aiter__(self) -> "Counted":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as fault:
            self._fault = fault
            raise
        self.size += len(chunk)
        self._digest.update(chunk)
        return chunk


def new_key(name: str) -> Key:
    """`uploads/<day>/<uuid><endings>`: of the client's name only endings that are known. A folder more is one more wait for the disk."""
    ending = _ENDING.search(name)
    assert ending is not None  # it matches the empty end of any name
    return Key(f"uploads/{datetime.now(UTC):%Y-%m-%d}/{uuid.uuid4()}{ending[0].lower()}")
