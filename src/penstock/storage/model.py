"""The seam to object storage: one behaviour, whether files lie in a folder or in a bucket."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NewType, Protocol

import msgspec

Key = NewType("Key", str)  # path-like, ASCII: letters, digits, `-`, `_`, `.` and `/`; made here, never taken from a client

EXPORTS = "exports/"  # what keys of exported files begin with


class Method(StrEnum):
    """What a signed link allows."""

    GET = "GET"
    PUT = "PUT"


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    key: Key
    size: int  # bytes
    version: str  # changes with the content; S3's ETag
    modified_at: datetime


class SignedLink(msgspec.Struct, frozen=True, kw_only=True):
    """`url` begins with a slash where the server itself answers it (a local folder); then it wants the server's address in front."""

    method: Method
    url: str
    headers: dict[str, str]  # what the client must send with it
    expires_at: datetime


class Storage(Protocol):
    """Every method may raise StorageUnavailableError. The synchronous ones may be called by several threads, never on the event loop.

    A key that is not made of the letters that `Key` names, or has a part that begins with a dot, is a ValueError.
    """

    @property
    def identity(self) -> str:
        """Tells two storages apart: the same text in every process that sees the same files."""

    async def put(self, key: Key, chunks: AsyncIterator[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        """Store a stream; memory stays at a few parts. It is seen when it is whole and on disk; if `chunks` raises, nothing is left.

        What was stored under the key before is replaced. If the task is cancelled nothing is left either, save when the last byte was
        handed over before: then the object may be there.
        """

    def write(self, key: Key, chunks: Iterable[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        """The same for a worker's thread."""

    def stat(self, key: Key) -> StoredObject:
        """Raises ObjectNotFoundError."""

    def read(self, key: Key, offset: int = 0, length: int | None = None, *, version: str | None = None) -> Generator[bytes, None, None]:
        """The bytes from `offset` on, in blocks of at most 8 MiB, all of one version: `version`, or the one that is there now.

        Raises ObjectNotFoundError: at the call if there is no such object (or version), later if it was replaced under way and the storage
        does not keep what it had. Close it when it is not read to its end.
        """

    async def stream(self, key: Key, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The same for the event loop: `async for block in await storage.stream(key)`. Raises ObjectNotFoundError when awaited."""

    def sign(self, method: Method, key: Key, expires: timedelta, *, filename: str | None = None) -> SignedLink:
        """A link that lets whoever holds it GET or PUT this one object until it expires. `filename`: what a browser saves a GET as."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Those whose key begins so, in the order of their keys."""

    def delete(self, key: Key) -> None:
        """Remove it; nothing happens if it is not there."""

    def local_path(self, key: Key) -> Path | None:
        """Where the object's file lies, whether it is there or not; None where objects are no files."""

    def check(self) -> None:
        """Raise StorageUnavailableError if it cannot be reached, or may not be written to; it takes 20 seconds at most to find out."""

    def sweep_leftovers(self, older_than: timedelta) -> int:
        """Remove what killed processes left half stored and nobody has written to for so long; how many there were."""
