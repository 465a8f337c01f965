"""A file on this machine."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from penstock.errors import FileChangedError, InvalidSourceError
from penstock.sources.fingerprint import compare, fingerprint_of
from penstock.sources.model import ByteStream, Identity


def open_source(path: str | os.PathLike[str], name: str | None = None) -> "LocalSource":
    """`name`: what to call it, if not by its path. Raises InvalidSourceError if there is no such regular file or it may not be read."""
    place = Path(path)
    try:
        # A FIFO would block here for ever; what it is is asked before it is opened.
        if not stat.S_ISREG(place.stat().st_mode):
            raise InvalidSourceError(f"{name or place.name} is not a regular file", path=str(path))
        with place.open("rb") as file:
            return LocalSource(place, name or place.name, _identity(file))
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the path
        reason = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise InvalidSourceError(f"cannot read {name or place.name}: {reason}", path=str(path)) from fault


class LocalSource:
    """A regular file, opened anew for each stream; every stream checks that it reads the file that was opened first."""

    def __init__(self, path: Path, name: str, identity: Identity) -> None:
        self._path = path
        self._name = name
        self._identity = identity
        self._newest: _LocalStream | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def size(self) -> int:
        return self._identity.size

    @property
    def identity(self) -> Identity:
        return self._identity

    def local_path(self) -> Path | None:
        return self._path

    def fingerprint(self) -> str:
        with self._opened() as file:

            def sample(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return fingerprint_of(self.size, sample)

    def verify(self, stored: Identity | None = None) -> None:
        expected = stored or self._identity
        try:
            with self._path.open("rb") as file:
                found = _identity(file)
        except OSError as fault:
            raise FileChangedError(f"{self.name} cannot be read any more: {fault.strerror}") from fault
        compare(self.name, expected, found)

    def open(self, offset: int = 0) -> ByteStream:
        file = self._opened()
        file.seek(offset)
        self._newest = _LocalStream(file, offset)
        return self._newest

    def position(self) -> int:
        return min(self._newest.position, self.size) if self._newest else 0

    def _opened(self) -> BinaryIO:
        try:
            file = self._path.open("rb", buffering=0)
        except OSError as fault:
            raise FileChangedError(f"{self.name} cannot be read any more: {fault.strerror}") from fault
        try:
            compare(self.name, self._identity, _identity(file))
        except FileChangedError:
            file.close()
            raise
        return file


class _LocalStream:
    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self.position = offset

    def read(self, size: int, /) -> bytes:
        block = self._file.read(size)
        self.position += len(block)
        return block

    def close(self) -> None:
        self._file.close()


def _identity(file: BinaryIO) -> Identity:
    status = os.fstat(file.fileno())
    return Identity(size=status.st_size, version=f"{status.st_mtime_ns:x}-{status.st_ino:x}")
