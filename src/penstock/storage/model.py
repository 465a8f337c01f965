"""The seam to object storage: one behaviour, whether files lie in a folder or in a bucket."""

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType, Protocol

import msgspec

Key = NewType("Key", str)  # path-like, ASCII: letters, digits, `-`, `_`, `.` and `/`; made here, never taken from a client


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
    """Every method may raise StorageUnavailableError. The synchronous ones may be called by several threads, never on the event loop."""

    @property
    def identity(self) -> str:
        """Tells two storages apart: the same text in every process that sees the same files."""

    async def put(self, key: Key, chunks: AsyncIterator[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        """Store a stream; memory stays at a few parts. It is seen when it is whole and on disk; if `chunks` raises, nothing is left."""

    def write(self, key: Key, chunks: Iterable[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        """The same for a worker's thread."""

    def stat(self, key: Key) -> StoredObject:
        """Raises ObjectNotFoundError."""

    def read(self, key: Key, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `offset` on, in blocks of at most some MiB. Raises ObjectNotFoundError. Close it when it is not read to its end."""

    async def stream(self, key: Key, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The same for the event loop."""

    def sign(self, method: Method, key: Key, expires: timedelta, *, filename: str | None = None) -> SignedLink:
        """A link that lets whoever holds it GET or PUT this one object until it expires. `filename`: what a browser saves a GET as."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """In the order of their keys."""

    def delete(self, key: Key) -> None:
        """Remove it; nothing happens if it is not there."""

    def check(self) -> None:
        """Raise StorageUnavailableError if it cannot be reached, or may not be written to."""
