"""The seam between those who accept events, those who apply them, and what keeps them in between."""

from collections.abc import Callable, Sequence
from typing import Protocol

import psycopg

from penstock.events.model import Backlog, Entry, Event, Outcome, Verdict

# Applies entries in the transaction that the connection is in, and neither ends it nor leaves it failed. One verdict for each entry, in
# their order. What it raises rolls the transaction back, and nothing is settled: DatabaseUnavailableError means that the same entries will
# do later, anything else is a defect.
Handle = Callable[[psycopg.Connection, Sequence[Entry]], list[Verdict]]


class EventLog(Protocol):
    """Durable, bounded, at least once. One for a process, used on one event loop; nothing here blocks it.

    Whatever raises DatabaseUnavailableError or EventLogUnavailableError may be asked again; while the circuit is open that comes at once.
    """

    async def append(self, events: Sequence[Event], *, again: bool = False) -> list[Outcome]:
        """Store events, and return only when those that are ACCEPTED survive the end of every process and machine that the log stands for.

        One outcome for each event, in their order. Where it raises, nothing is known: what was stored stays, and the sender sends again.
        `again`: these are dead letters that come back, and no duplicates of themselves.

        Raises DatabaseUnavailableError (CircuitOpenError), DatabaseRefusedError, EventLogUnavailableError, OverloadedError; HandedOverError
        once it is closed.
        """
        ...

    async def deliver(self, handle: Handle, *, limit: int, wait_seconds: float) -> int:
        """Take up to `limit` entries, wait at most so long for the first and for the batch to fill, hand them to `handle` in a thread and
        in a transaction of its own, and settle them by its verdicts. How many there were.

        An entry is settled only after its effect is committed; with a process that dies it comes to another. Several may deliver at once,
        in one process or on many machines, and never hold the same entry at the same time, unless one was silent for too long.

        Raises DatabaseUnavailableError, DatabaseRefusedError, EventLogUnavailableError.
        """
        ...

    async def backlog(self) -> Backlog:
        """Without passing by what waits. Raises as `deliver`."""
        ...

    async def check(self) -> None:
        """Whether the log can be reached. Raises as `deliver`."""
        ...

    async def close(self) -> None:
        """Store what was given to `append`, bounded in time, and let go of everything. May be called twice."""
        ...
