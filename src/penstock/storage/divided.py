"""Two folders as one storage: exports in one of their own, everything else in the other."""

import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from penstock.storage.local import LocalStorage
from penstock.storage.model import EXPORTS, Key, Method, SignedLink, StoredObject


class DividedStorage:
    """Keys below EXPORTS lie in `exports`, all others in `others`."""

    def __init__(self, others: LocalStorage, exports: LocalStorage) -> None:
        self._others = others
        self._exports = exports

    @property
    def identity(self) -> str:
        return f"{self._others.identity}+exports:{self._exports.identity}"

    async def put(self, key: Key, chunks: AsyncIterator[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        return await self._of(key).put(key, chunks, content_type=content_type)

    def write(self, key: Key, chunks: Iterable[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        return self._of(key).write(key, chunks, content_type=content_type)

    def stat(self, key: Key) -> StoredObject:
        return self._of(key).stat(key)

    def read(self, key: Key, offset: int = 0, length: int | None = None, *, version: str | None = None) -> Generator[bytes, None, None]:
        return self._of(key).read(key, offset, length, version=version)

    async def stream(self, key: Key, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        return await self._of(key).stream(key, offset, length)

    def sign(self, method: Method, key: Key, expires: timedelta, *, filename: str | None = None) -> SignedLink:
        return self._of(key).sign(method, key, expires, filename=filename)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        # One folder may lie in the other.
        others = (found for found in self._others.list(prefix) if not found.key.startswith(EXPORTS))
        return heapq.merge(others, self._exports.list(prefix), key=lambda found: found.key)

    def delete(self, key: Key) -> None:
        self._of(key).delete(key)

    def local_path(self, key: Key) -> Path:
        return self._of(key).local_path(key)

    def check(self) -> None:
        self._others.check()
        self._exports.check()

    def sweep_leftovers(self, older_than: timedelta) -> int:
        return self._others.sweep_leftovers(older_than) + self._exports.sweep_leftovers(older_than)

    def _of(self, key: Key) -> LocalStorage:
        return self._exports if key.startswith(EXPORTS) else self._others
