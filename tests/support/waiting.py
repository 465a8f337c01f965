"""Waits for something to become true; bounded, and over as soon as it is."""

import time
from collections.abc import Callable

from penstock.database.processes import alive

_SECONDS = 30.0


def until(condition: Callable[[], object], seconds: float = _SECONDS) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not (met := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.01)
    return met


def gone(pid: int) -> bool:
    """Whether the process has ended, a zombie included."""
    return until(lambda: not alive(pid))
