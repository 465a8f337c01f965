"""The beginning of a file as a source of its own. Where it was cut off, readers see a break and not an end."""

import hashlib
from pathlib import Path

from penstock.errors import TruncatedFileError
from penstock.formats.sniff import is_parquet
from penstock.sources.model import ByteStream, Identity, Source

HEAD_BYTES = 1024 * 1024


class HeadSource:
    """At most the first MiB, in memory. `whole`: that is all there is."""

    def __init__(self, name: str, data: bytes, *, whole: bool) -> None:
        self.name = name
        self.data = data
        self.whole = whole
        self._newest: _HeadStream | None = None

    @property
    def is_parquet(self) -> bool:
        return is_parquet(self.data)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def identity(self) -> Identity:
        return Identity(size=self.size, version=self.fingerprint())

    def fingerprint(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def verify(self, stored: Identity | None = None) -> None:
        """Bytes in memory do not change."""

    def open(self, offset: int = 0) -> ByteStream:
        self._newest = _HeadStream(self.data, offset, whole=self.whole)
        return self._newest

    def position(self) -> int:
        return self._newest.at if self._newest else 0

    def local_path(self) -> Path | None:
        return None


class _HeadStream:
    def __init__(self, data: bytes, offset: int, *, whole: bool) -> None:
        self._data = data
        self._whole = whole
        self.at = min(offset, len(data))

    def read(self, size: int, /) -> bytes:
        block = self._data[self.at : self.at + size]
        self.at += len(block)
        if not block and not self._whole:
            raise TruncatedFileError("only the beginning of the file was looked at")
        return block

    def close(self) -> None:
        return


def head_of(source: Source) -> HeadSource:
    """Reads no more than the head. Raises what the source's stream raises."""
    held = bytearray()
    stream = source.open()
    try:
        while len(held) < HEAD_BYTES and (block := stream.read(HEAD_BYTES - len(held))):
            held += block
    finally:
        stream.close()
    return HeadSource(source.name, bytes(held), whole=len(held) >= source.size)
