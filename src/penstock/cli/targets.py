"""Where an export goes: a file that takes its name only when it is whole, a device or a pipe, or standard output."""

import errno
import fcntl
import glob
import os
import secrets
import select
import shutil
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, Self

from penstock.errors import InvalidOptionError
from penstock.formats.model import Compression, Format

_STANDARD_OUTPUT = (None, "-", "/dev/stdout")
_FORMATS = {".csv": Format.CSV, ".ndjson": Format.NDJSON, ".jsonl": Format.NDJSON, ".json": Format.JSON, ".parquet": Format.PARQUET}
_COMPRESSIONS = {".gz": Compression.GZIP, ".zst": Compression.ZSTD}
_PART = ".part"
_MOST_NAME_BYTES = 200  # of the target's name in that of its part; file systems take 255


class Target(Protocol):
    """Entered, it can be written; left without an error, all of it is there. Each may raise OSError, which names the file."""

    shown: str  # for messages
    path: Path | None  # None: standard output

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def write(self, block: bytes) -> None: ...

    def discard(self) -> None:
        """From now on nothing of it is to be seen. By any thread, while another may still write."""


def is_standard_output(file: str | None) -> bool:
    return file in _STANDARD_OUTPUT


def form_of(file: str | None, form: Format | None, compression: Compression | None) -> tuple[Format, Compression]:
    """What is not given follows the file's name; standard output, a device and a pipe get NDJSON. Raises InvalidOptionError."""
    endings = [] if is_standard_output(file) else [ending.lower() for ending in Path(str(file)).suffixes[-2:]]
    told = _COMPRESSIONS.get(endings[-1]) if endings else None
    if told is not None:
        endings.pop()
    form = form or (_FORMATS.get(endings[-1]) if endings else None)
    if form is None and file is not None and not is_standard_output(file) and not is_special(Path(file)):
        raise InvalidOptionError(
            f"{file}: the name does not tell the format; let it end in {', '.join(_FORMATS)} (and .gz or .zst after it), or give --format",
            allowed=[each.value for each in Format],
        )
    return form or Format.NDJSON, compression or told or Compression.NONE


def is_special(path: Path) -> bool:
    """A device or a pipe: written as it is, never replaced."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def target_of(file: str | None, *, force: bool) -> Target:
    """Nothing is opened yet. Raises InvalidOptionError for what cannot be written, or would be replaced without `force`."""
    if file is None or is_standard_output(file):
        return Stream(None)
    if not file:
        raise InvalidOptionError("FILE is empty: give a name, or - for standard output")
    path = Path(file)
    if path.is_dir():
        raise InvalidOptionError(f"{file} is a folder; name a file in it, such as {file.rstrip('/')}/users.csv")
    if is_special(path):
        return Stream(path)
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InvalidOptionError(f"{file}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidOptionError(f"{file}: this user may not write in {folder}")
    if path.exists() and not force:
        raise _exists(path)
    return NewFile(path, force=force)


def _exists(path: Path) -> InvalidOptionError:
    return InvalidOptionError(f"{path} exists already: give another name, or --force to replace it", file=str(path))


class Stream:
    """Standard output, a device or a pipe: what is written there is gone, so nothing can be taken back."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.shown = "standard output" if path is None else str(path)
        self._descriptor = -1

    def __enter__(self) -> Self:
        if self.path is None:
            # Not through Python's buffer: whoever ends the process flushes that, and would wait for a write that is stuck.
            sys.stdout.flush()
            self._descriptor = sys.stdout.fileno()
        else:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)  # of a pipe: waits for its reader
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path is not None:
            os.close(self._descriptor)

    def write(self, block: bytes) -> None:
        try:
            _write_all(self._descriptor, block)
        except BrokenPipeError:
            if self.path is None:
                raise  # `| head` has seen enough: nothing that somebody wants to be told
            # Not EPIPE, of which the command line makes a silent end.
            raise _named_error(OSError(errno.ECONNRESET, "its reader has gone away"), self.shown) from None
        except OSError as error:
            raise _named_error(error, self.shown) from None

    def discard(self) -> None:
        """Its reader sees that the command failed."""


class NewFile:
    """Written beside its place under a name of its own; on disk before it is seen. A link stays a link.

    What a killed process left of the same file is removed: its lock went with it.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path: Path | None = path
        self.shown = str(path)
        self._place = path.resolve()
        self._force = force
        prefix = os.fsdecode(b"." + os.fsencode(self._place.name)[:_MOST_NAME_BYTES] + b".")
        self._part = self._place.with_name(f"{prefix}{secrets.token_hex(4)}{_PART}")
        self._leftovers = f"{glob.escape(prefix)}{'[0-9a-f]' * 8}{_PART}"
        self._descriptor = -1
        # A signal may come while its own thread discards, and discards again.
        self._lock = threading.RLock()
        self._discarded = False

    def __enter__(self) -> Self:
        with _named(self.shown), self._lock:
            self._remove_leftovers()
            self._check()
            self._descriptor = self._opened()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with _named(self.shown):
                    os.fsync(self._descriptor)
                    self._publish()
        finally:
            os.close(self._descriptor)
            self._part.unlink(missing_ok=True)

    def write(self, block: bytes) -> None:
        with _named(self.shown):
            _write_all(self._descriptor, block)

    def discard(self) -> None:
        with self._lock:
            self._discarded = True
            self._part.unlink(missing_ok=True)

    def _opened(self) -> int:
        while True:
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._part.exists():
                return descriptor
            os.close(descriptor)  # another process took it for a leftover before it was locked

    def _publish(self) -> None:
        with self._lock:
            self._check()
            if self._force:
                with suppress(FileNotFoundError):
                    shutil.copymode(self._place, self._part)
                self._part.replace(self._place)
            else:
                self._take_free_name()
        folder = os.open(self._place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # a file's name is on disk when its folder is
        finally:
            os.close(folder)

    def _take_free_name(self) -> None:
        try:
            self._place.hardlink_to(self._part)  # unlike a rename it leaves what has come there meanwhile
        except FileExistsError:
            raise _exists(Path(self.shown)) from None
        except OSError:  # a file system without hard links
            if self._place.exists():
                raise _exists(Path(self.shown)) from None
            self._part.replace(self._place)

    def _check(self) -> None:
        if self._discarded:
            raise InterruptedError

    def _remove_leftovers(self) -> None:
        for part in self._place.parent.glob(self._leftovers):
            try:
                with part.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink(missing_ok=True)
            except OSError:  # still being written, or gone meanwhile
                continue


def _write_all(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody who shares it wants no waiting
            select.select([], [descriptor], [])


def _named_error(error: OSError, shown: str) -> OSError:
    """A full disk is told with the file that it is full for."""
    error.filename, error.filename2 = shown, None
    return error


@contextmanager
def _named(shown: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _named_error(error, shown) from None
