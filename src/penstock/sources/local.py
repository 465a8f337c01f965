"""A file on this machine."""

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from penstock.errors import FileChangedError, InvalidSourceError
from penstock.sources.model import ByteStream, Identity

WHOLE_BYTES = 8 * 1024 * 1024  # up to this size the fingerprint covers every byte
EDGE_BYTES = 1024 * 1024
SAMPLES, SAMPLE_BYTES = 64, 64 * 1024


def open_source(path: str | os.PathLike[str]) -> "LocalSource":
    """Raises InvalidSourceError if there is no such regular file or it may not be read."""
    place = Path(path)
    try:
        # A FIFO would block here for ever; what it is is asked before it is opened.
        if not stat.S_ISREG(place.stat().st_mode):
            raise InvalidSourceError(f"{place.name} is not a regular file", path=str(path))
        with place.open("rb") as file:
            return LocalSource(place, _identity(file))
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the path
        reason = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise InvalidSourceError(f"cannot read {place.name}: {reason}", path=str(path)) from fault


class LocalSource:
    """A regular file, opened anew for each stream; every stream checks that it reads the file that was opened first."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._identity = identity
        self._newest: _LocalStream | None = None

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def size(self) -> int:
        return self._identity.size

    @property
    def identity(self) -> Identity:
        return self._identity

    def local_path(self) -> Path | None:
        return self._path

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.size}\0".encode())
        with self._opened() as file:
            for offset, length in _samples(self.size):
                file.seek(offset)
                digest.update(file.read(length))
        return digest.hexdigest()

    def verify(self, stored: Identity | None = None) -> None:
        expected = stored or self._identity
        try:
            with self._path.open("rb") as file:
                found = _identity(file)
        except OSError as fault:
            raise FileChangedError(f"{self.name} cannot be read any more: {fault.strerror}") from fault
        _compare(self.name, expected, found)

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
            _compare(self.name, self._identity, _identity(file))
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
    return Identity(size=status.st_size, modified_ns=status.st_mtime_ns, inode=status.st_ino)


def _compare(name: str, expected: Identity, found: Identity) -> None:
    if found == expected:
        return
    changed = [part for part in Identity.__struct_fields__ if getattr(expected, part) != getattr(found, part)]
    raise FileChangedError(
        f"{name} is not the file it was when the import began ({', '.join(changed)} changed); import it anew",
        changed=changed,
    )


def _samples(size: int) -> list[tuple[int, int]]:
    """Offset and length of what the fingerprint covers: all of a small file; of a large one its edges and evenly spaced blocks."""
    if size <= WHOLE_BYTES:
        return [(0, size)]
    step = (size - 2 * EDGE_BYTES - SAMPLE_BYTES) // (SAMPLES - 1)
    inner = [(EDGE_BYTES + index * step, SAMPLE_BYTES) for index in range(SAMPLES)]
    return [(0, EDGE_BYTES), *inner, (size - EDGE_BYTES, EDGE_BYTES)]
