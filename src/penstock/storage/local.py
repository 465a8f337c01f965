"""Storage in a folder: a key is a path below it, and what is not yet an object lies in `.partial`.

A name that begins with a dot is no key, so `.partial` and the mark cannot be reached. Several machines may share the folder, if its file
system renames atomically.
"""

import errno
import functools
import os
import stat as modes
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.errors import ObjectNotFoundError, StorageUnavailableError
from penstock.storage.keys import checked, is_key
from penstock.storage.links import make_link
from penstock.storage.model import Key, Method, SignedLink, StoredObject
from penstock.storage.partial import FOLDER_MODE, PartialFile, make_folders, sync_folder
from penstock.storage.threads import in_thread, pour, streamed

BLOCK_BYTES = 1024 * 1024
_MARK = ".penstock-storage"
_PARTIAL = ".partial"
_ALSO = " (for exports EXPORT_DIR, if that is set)"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalStorage:
    def __init__(self, folder: Path, secret: bytes, *, below: str = "") -> None:
        """`below`: the beginning, to a slash, that all its keys have and its paths have not.

        Raises StorageUnavailableError if the folder cannot be made.
        """
        self._below = below
        self._root = folder.absolute()
        self._partial = self._root / _PARTIAL
        self._secret = secret
        with _translated("opened"):
            make_folders(self._partial)
            self._root.chmod(FOLDER_MODE)
            self._identity = f"folder:{_marked(self._root)}"

    @property
    def identity(self) -> str:
        return self._identity

    async def put(self, key: Key, chunks: AsyncIterator[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:  # noqa: ARG002 - a folder keeps none
        target = self._path(key)
        begun: list[PartialFile] = []
        try:
            await in_thread(lambda: begun.append(self._begin()))  # kept also if the task is cancelled meanwhile
            await pour(chunks, functools.partial(_write, begun[0]))
            return await in_thread(self._publish, begun[0], key, target)
        finally:
            for partial in begun:
                await in_thread(partial.__exit__, None, None, None)

    def write(self, key: Key, chunks: Iterable[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:  # noqa: ARG002 - as above
        target = self._path(key)
        with self._begin() as partial:
            for chunk in chunks:
                _write(partial, chunk)
            return self._publish(partial, key, target)

    def stat(self, key: Key) -> StoredObject:
        with _translated("read", key):
            return _described(key, self._path(key).stat())

    def read(self, key: Key, offset: int = 0, length: int | None = None, *, version: str | None = None) -> Generator[bytes, None, None]:
        return _blocks(self._opened(key, offset, version), key, length)

    async def stream(self, key: Key, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        return streamed(_blocks(await in_thread(self._opened, key, offset, None), key, length))

    def sign(self, method: Method, key: Key, expires: timedelta, *, filename: str | None = None) -> SignedLink:
        return make_link(self._secret, method, checked(key), expires, filename)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return _walk(self._root, self._below, prefix)

    def delete(self, key: Key) -> None:
        path = self._path(key)
        with _translated("changed", key), suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)
        for folder in path.parents:
            if folder == self._root:
                break
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone
                break

    def local_path(self, key: Key) -> Path:
        return self._path(key)

    def check(self) -> None:
        with self._begin() as partial:
            _write(partial, b"x")

    def sweep_leftovers(self, older_than: timedelta) -> int:
        limit, removed = time.time() - older_than.total_seconds(), 0
        with _translated("swept"), os.scandir(self._partial) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime <= limit:
                        os.unlink(entry.path)  # noqa: PTH108 - scandir gives text
                        removed += 1
        return removed

    def _path(self, key: Key) -> Path:
        if not checked(key).startswith(self._below):
            raise ValueError(f"not a key of this folder: {key!r}")
        return self._root / key.removeprefix(self._below)

    def _begin(self) -> PartialFile:
        with _translated("written to"):
            return PartialFile(self._partial)

    def _publish(self, partial: PartialFile, key: Key, target: Path) -> StoredObject:
        with _translated("written to"):
            return _described(key, partial.publish(target, self._root))

    def _opened(self, key: Key, offset: int, version: str | None) -> int:
        with _translated("read", key):
            file = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _expect(_described(key, os.fstat(file)), version)
            os.lseek(file, offset, os.SEEK_SET)
        except BaseException:
            os.close(file)
            raise
        return file


def _marked(root: Path) -> str:
    """The name that whoever came first gave the folder; of several who come at once, one is first."""
    mark = root / _MARK
    if not mark.exists():
        with PartialFile(root / _PARTIAL) as own, suppress(FileExistsError):
            own.write(str(uuid.uuid4()).encode())
            own.publish_first(mark)
    return mark.read_text().strip()


def _write(partial: PartialFile, block: bytes) -> None:
    with _translated("written to"):
        partial.write(block)


def _described(key: Key, status: os.stat_result) -> StoredObject:
    if not modes.S_ISREG(status.st_mode):
        raise _missing(key)
    version = f"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}"
    return StoredObject(key=key, size=status.st_size, version=version, modified_at=datetime.fromtimestamp(status.st_mtime, UTC))


def _expect(found: StoredObject, version: str | None) -> None:
    if version not in (None, found.version):
        raise _missing(found.key)


def _blocks(file: int, key: Key, length: int | None) -> Generator[bytes, None, None]:
    blocks = _read_blocks(file, key, length)
    next(blocks)  # into its `try`, so that closing it closes the file, also before the first block
    return blocks


def _read_blocks(file: int, key: Key, length: int | None) -> Generator[bytes, None, None]:
    try:
        yield b""
        while length is None or length > 0:
            with _translated("read", key):
                block = os.read(file, BLOCK_BYTES if length is None else min(length, BLOCK_BYTES))
            if not block:
                return
            length = None if length is None else length - len(block)
            yield block
    finally:
        os.close(file)


def _walk(folder: Path, above: str, prefix: str) -> Iterator[StoredObject]:
    """Depth first, in the order of whole keys: a folder's slash counts, `a.b` comes before `a/b`. One folder is held at a time."""
    try:
        with _translated("read", Key(above) if above else None), os.scandir(folder) as entries:
            found = sorted((entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries)
    except ObjectNotFoundError:  # removed since
        return
    for name in found:
        path = above + name
        if name.startswith(".") or not (path.startswith(prefix) or prefix.startswith(path)):
            continue
        if name.endswith("/"):
            yield from _walk(folder / name, path, prefix)
        elif path.startswith(prefix) and is_key(path):
            with suppress(ObjectNotFoundError), _translated("read", Key(path)):
                yield _described(Key(path), (folder / name).stat())


@contextmanager
def _translated(done: str, key: Key | None = None) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if key is not None:
            raise _missing(key) from error
        raise StorageUnavailableError(f"The storage folder is not there any more. Mount or restore PENSTOCK_DATA_DIR{_ALSO}.") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageUnavailableError("The disk of the storage folder is full. Make room, then try again.") from error
        reason = error.strerror or type(error).__name__
        raise StorageUnavailableError(f"The storage folder cannot be {done}: {reason}. Check PENSTOCK_DATA_DIR{_ALSO}.") from error


def _missing(key: Key) -> ObjectNotFoundError:
    return ObjectNotFoundError("The file is not in storage. It was removed or replaced, or never arrived.", key=key)
