"""Locks on files between processes, by flock: the kernel drops them with the process, so that no kill leaves one behind."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.02


def open_lock(path: Path) -> int:
    """A descriptor to lock; children do not inherit it. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Whether the lock was had at once. Changing a lock that is held may lose it (flock(2))."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the file's exclusive lock. Raises TimeoutError after `seconds`, OSError where the file cannot be opened."""
    descriptor = open_lock(path)
    try:
        deadline = time.monotonic() + seconds
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(path)
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
