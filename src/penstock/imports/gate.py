"""How many pieces of work one process has under way in the database at once, over all its jobs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.5


class Gate:
    """Permits for steps that keep the database busy. Heartbeats and the ledger's short writes never ask.

    Whoever holds row locks holds a permit: a step that takes locks ends its transaction before it gives the permit back, and an import in
    one transaction keeps its permit to the end. So nobody who waits for a permit can block one who has it.
    """

    def __init__(self, permits: int) -> None:
        self._free = threading.BoundedSemaphore(permits)

    @contextmanager
    def permit(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for a permit, for as long as `check`, which is asked twice a second, raises nothing."""
        while not self._free.acquire(timeout=_LOOK_SECONDS):
            check()
        try:
            yield
        finally:
            self._free.release()
