"""How many pieces of work one process has under way in the database at once, over all its jobs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.database.connect import pool_size

_LOOK_SECONDS = 0.5


def permits_of(import_workers: int) -> int:
    """Pieces of work under way at once: what the pool's short operations and one for queue and upkeep leave of IMPORT_WORKERS."""
    return max(1, import_workers - pool_size(import_workers) - 1)


class Gate:
    """Permits for steps that keep the database busy. Heartbeats and the ledger's short writes never ask.

    Whoever holds row locks holds a permit: a step that takes locks ends its transaction before it gives the permit back, and an import in
    one transaction keeps its permit to the end. So nobody who waits for a permit can block one who has it.
    """

    def __init__(self, permits: int) -> None:
        self.permits = permits
        self._free = threading.BoundedSemaphore(permits)
        self._exporting = threading.BoundedSemaphore(max(1, permits // 2))

    @contextmanager
    def permit(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for a permit, for as long as `check`, which is asked twice a second, raises nothing."""
        with _held(self._free, check):
            yield

    @contextmanager
    def try_permit(self, seconds: float) -> Iterator[bool]:
        """Whether there was one within that time."""
        taken = self._free.acquire(timeout=seconds)
        try:
            yield taken
        finally:
            if taken:
                self._free.release()

    @contextmanager
    def export(self, check: Callable[[], None]) -> Iterator[None]:
        """The same for an export, which keeps its permit for as long as somebody reads: all of them together have half the permits at
        most, so that slow readers do not keep imports out. Who waits for another export to end takes no permit meanwhile.
        """
        with _held(self._exporting, check), _held(self._free, check):
            yield


@contextmanager
def _held(semaphore: threading.BoundedSemaphore, check: Callable[[], None]) -> Iterator[None]:
    while not semaphore.acquire(timeout=_LOOK_SECONDS):
        check()
    try:
        yield
    finally:
        semaphore.release()
