"""An object in storage, read by ranges. Every stream is pinned to the version that was opened first."""

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import stamina

from penstock.errors import FileChangedError, InvalidSourceError, ObjectNotFoundError, StorageUnavailableError
from penstock.sources.fingerprint import compare, fingerprint_of
from penstock.sources.model import ByteStream, Identity
from penstock.storage.model import Key, Storage, StoredObject

# The storage tries each request several times itself, which takes a minute at most; these are further times from where the stream stood.
_ATTEMPTS, _WITHIN_SECONDS = 4, 120.0
_AGAIN = partial(
    stamina.retry_context, on=StorageUnavailableError, attempts=_ATTEMPTS, timeout=_WITHIN_SECONDS, wait_initial=0.2, wait_max=5.0
)


def open_object(storage: Storage, key: Key, name: str) -> "ObjectSource":
    """`name`: what its sender called it. Raises InvalidSourceError if it is not there, StorageUnavailableError."""
    try:
        return ObjectSource(storage, storage.stat(key), name)
    except ObjectNotFoundError as error:
        raise InvalidSourceError(f"{name} is not in storage any more; send it again", key=key) from error


class ObjectSource:
    def __init__(self, storage: Storage, found: StoredObject, name: str) -> None:
        self._storage = storage
        self._key = found.key
        self._name = name
        self._identity = _identity(found)
        self._newest: _ObjectStream | None = None

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
        return None

    def fingerprint(self) -> str:
        self.verify()
        return fingerprint_of(self.size, self._sample)

    def verify(self, stored: Identity | None = None) -> None:
        try:
            found = self._storage.stat(self._key)
        except ObjectNotFoundError as error:
            raise _gone(self._name) from error
        compare(self._name, stored or self._identity, _identity(found))

    def open(self, offset: int = 0) -> ByteStream:
        self.verify()
        self._newest = self._stream(offset)
        return self._newest

    def position(self) -> int:
        return min(self._newest.position, self.size) if self._newest else 0

    def _stream(self, offset: int, length: int | None = None) -> "_ObjectStream":
        end = self.size if length is None else min(self.size, offset + length)
        return _ObjectStream(self._blocks, self._name, offset, end)

    def _blocks(self, offset: int, length: int) -> Generator[bytes, None, None]:
        return self._storage.read(self._key, offset, length, version=self._identity.version)

    def _sample(self, offset: int, length: int) -> bytes:
        stream, out = self._stream(offset, length), bytearray()
        try:
            while block := stream.read(length - len(out)):
                out += block
        finally:
            stream.close()
        return bytes(out)


class _ObjectStream:
    """One block of the storage is held. After a fault it goes on behind the last byte that arrived."""

    def __init__(self, blocks: Callable[[int, int], Generator[bytes, None, None]], name: str, offset: int, end: int) -> None:
        self._blocks_of = blocks
        self._name = name
        self._blocks: Generator[bytes, None, None] | None = None
        self._held = memoryview(b"")
        self._arrived = offset
        self._end = end

    @property
    def position(self) -> int:
        return self._arrived - len(self._held)

    def read(self, size: int, /) -> bytes:
        if size <= 0:
            return b""
        if not self._held and self._arrived < self._end:
            self._held = memoryview(self._next_block())
            self._arrived += len(self._held)
        out, self._held = self._held[:size], self._held[size:]
        return bytes(out)

    def close(self) -> None:
        if self._blocks is not None:
            self._blocks.close()
            self._blocks = None
        self._held = memoryview(b"")

    def _next_block(self) -> bytes:
        for attempt in _AGAIN():
            with attempt:
                return self._ask()
        raise AssertionError  # the last attempt has raised its own error

    def _ask(self) -> bytes:
        try:
            if self._blocks is None:
                self._blocks = self._blocks_of(self._arrived, self._end - self._arrived)
            if block := next(self._blocks, b""):
                return block
        except ObjectNotFoundError as error:
            raise _gone(self._name) from error
        except StorageUnavailableError:
            self._blocks = None  # a generator that has raised is at its end
            raise
        self._blocks = None
        raise StorageUnavailableError("The object storage ended an answer too early. Try again.")


def _identity(found: StoredObject) -> Identity:
    return Identity(size=found.size, version=found.version)


def _gone(name: str) -> FileChangedError:
    return FileChangedError(f"{name} was removed or replaced in storage while it was imported; import it anew", changed=["version"])
