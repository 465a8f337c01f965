"""A file that is written under a name of its own and then takes the object's place in one step, on disk before it is seen."""

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_TRIES = 10


class PartialFile:
    """Below `folder` until `publish` renames it. Left as a context without that, it is removed; a killed process leaves it there.

    Raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / uuid.uuid4().hex
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        self._published = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)
        if not self._published:
            with suppress(FileNotFoundError):
                self._path.unlink()

    def write(self, block: bytes | bytearray) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def publish_first(self, target: Path) -> None:
        """The same where nothing is yet, in a folder that is; of several who come at once one is first. Raises FileExistsError."""
        os.fsync(self._file)
        target.hardlink_to(self._path)  # unlike a rename it leaves what is there
        sync_folder(target.parent)

    def publish(self, target: Path, root: Path) -> os.stat_result:
        """Take the place of `target` below `root`; folders are made. After it a power cut takes nothing back."""
        os.fsync(self._file)
        # A delete in another process may remove an empty folder between its making and the rename.
        _again(lambda: _move(self._path, target))
        self._published = True
        for folder in target.parents:
            sync_folder(folder)
            if folder == root:
                break
        return os.fstat(self._file)


def _move(source: Path, target: Path) -> None:
    make_folders(target.parent)
    source.replace(target)


def _again(step: Callable[[], None]) -> None:
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return step()
    return step()


def make_folders(folder: Path) -> None:
    """With `mkdir(parents=True)` the parents would get the umask's mode."""
    if not folder.is_dir():
        make_folders(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(FOLDER_MODE)


def sync_folder(folder: Path) -> None:
    """A file's name is on disk when its folder is. One that is gone has nothing to keep."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
