"""How many more events the log may hold, without counting them and without asking before each commit."""

import time

import psycopg

from penstock.database.queries import load

# Of the room that was left a server uses so much before it asks again, so that up to 64 of them stay below the bound together; and what it
# was told it believes so long.
_SHARE = 64
_SECONDS = 1.0
_SQL = load("penstock.events", "log.sql")


class Room:
    """For one thread. Several servers that ask at the same moment may pass the bound by a group each, and no more."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._allowance = 0
        self._until = 0.0

    def up_to(self, cursor: psycopg.Cursor, wanted: int) -> int:
        """How many of so many there is room for. Raises psycopg.Error."""
        if wanted <= self._allowance and time.monotonic() < self._until:
            self._allowance -= wanted
            return wanted
        row = cursor.execute(_SQL["count_waiting"]).fetchone()
        assert row is not None
        left = max(0, self._bound - int(row[0]))
        granted = min(wanted, left)
        self._allowance = (left - granted) // _SHARE
        self._until = time.monotonic() + _SECONDS
        return granted

    def forget(self) -> None:
        self._allowance = 0
