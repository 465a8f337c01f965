"""Where to begin looking in an index whose beginning may be full of rows that are long gone.

PostgreSQL keeps a deleted row, and its place in every index, for as long as a snapshot is open that might see it: an export for an hour
keeps an hour of events. "The first thousand by position" would pass by all of them each time, some hundred thousand after a minute. So a
process remembers where the first one was a moment ago, and begins there.
"""

import threading
import time
from datetime import datetime
from typing import Generic, TypeVar

# Rows become visible in the order of their commits, which is not that of their positions: what was written by another server may appear
# before a place that was seen already. It is found all the same if it took no longer than this; else by the next look from the very start.
LAG_SECONDS = 0.5
# How often somebody looks from the very start: for rows that another worker had, and lost. Never more than a fiftieth of the time goes into
# it, however long it takes.
FULL_LOOK_SECONDS = 2.0
_SHARE = 50

P = TypeVar("P", int, datetime)


class Start(Generic[P]):
    """A place before which there was nothing some LAG_SECONDS ago. May be used by several threads."""

    def __init__(self, first: P) -> None:
        self._begin: P = first
        self._next: P = first
        self._since = time.monotonic()
        self._lock = threading.Lock()

    @property
    def begin(self) -> P:
        """Where to look from."""
        return self._begin

    def first_is_at(self, place: P) -> None:
        """Just now the first was seen there, or nothing before it where there was none; or it comes back there."""
        with self._lock:
            now = time.monotonic()
            if place < self._begin:
                self._begin = self._next = place
                self._since = now
            elif place < self._next:
                self._next = place
            elif now - self._since >= LAG_SECONDS:
                self._begin, self._next, self._since = self._next, place, now


class Rarely:
    """Lets one through at a time, so rarely that what it does costs little. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0
        self._began: float | None = None

    def begin(self) -> bool:
        """Whether the caller may; it calls `end`, whatever happens."""
        with self._lock:
            now = time.monotonic()
            if self._began is not None or now < self._next:
                return False
            self._began = now
            return True

    def end(self) -> None:
        with self._lock:
            assert self._began is not None
            now = time.monotonic()
            self._next = now + max(FULL_LOOK_SECONDS, (now - self._began) * _SHARE)
            self._began = None
