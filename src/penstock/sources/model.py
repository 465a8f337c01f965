"""The seam between a reader and wherever its file lies: a local path, or an object in storage."""

from pathlib import Path
from typing import Protocol

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What tells cheaply that a file is still the one that was opened."""

    size: int  # bytes as stored
    version: str  # changes whenever the content may have changed; what it is made of is the source's matter


class ByteStream(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, at least one of them; empty only at the end.

        Raises TruncatedFileError where the stream breaks, after everything before the break was read; FileChangedError if the file is
        not the one that was opened any more; StorageUnavailableError.
        """

    def close(self) -> None: ...


class Source(Protocol):
    @property
    def name(self) -> str:
        """The file's name without folders; its endings tell the format."""

    @property
    def size(self) -> int:
        """Bytes as stored (compressed, if the file is)."""

    @property
    def identity(self) -> Identity: ...

    def fingerprint(self) -> str:
        """The same for the same bytes under any name: sha256 in hexadecimal, at constant cost."""

    def verify(self, stored: Identity | None = None) -> None:
        """Raise FileChangedError if the file is not the one that was opened (or whose identity was stored) any more."""

    def open(self, offset: int = 0) -> ByteStream:
        """The stored bytes from `offset` on. Streams are independent of each other."""

    def position(self) -> int:
        """How many stored bytes the newest stream has passed, 0..size: for progress."""

    def local_path(self) -> Path | None:
        """Where a library that needs a real file finds it; None where there is none."""
