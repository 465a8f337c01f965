"""Connections that merge: each partition has one of its own for a whole pass, so that its staging tables are made once.

A lane does a piece of work in a transaction behind the fence, again and again while other transactions are in the way. A lost connection
it does not replace: what of the work before took effect is known only from the ledger, and `recovery` begins anew from there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

import psycopg
import stamina

from penstock.database.sqlstates import is_conflict, translate
from penstock.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from penstock.imports.free import MovedError
from penstock.imports.ledger import Ledger

Connection = psycopg.Connection[Any]
T = TypeVar("T")

# How long other transactions are waited out before the attempt gives up; the job then waits for the next attempt, nothing is lost.
_PATIENCE_SECONDS = 60.0
# How often records are resolved anew because others took or removed keys meanwhile. More than that is no race: the table has a constraint
# that the resource does not know of.
_RACES = 8
_RACE_STATES = ("23503", "23505")  # foreign key and unique violations


class _Patience:
    """Decides whether the same work may succeed when it is done again. One for each piece of work."""

    def __init__(self) -> None:
        self._races = 0

    def __call__(self, error: Exception) -> bool:
        if isinstance(error, MovedError) or (isinstance(error, psycopg.Error) and error.sqlstate in _RACE_STATES):
            self._races += 1
            return self._races < _RACES
        return is_conflict(error)


class Lane:
    """One connection, made when it is needed. Used by one thread at a time."""

    def __init__(self, connect: Callable[[], Connection], ledger: Ledger) -> None:
        self._connect = connect
        self._ledger = ledger
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[tuple[Connection, datetime]]:
        """A transaction behind the fence, and the database's time. Raises LeaseLostError. Inside another one it is a savepoint."""
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.transaction():
            yield self._connection, self._ledger.hold_fence(self._connection)

    def persist(self, work: Callable[[], T]) -> T:
        """Do the work until it succeeds, bounded. Raises DatabaseError when it does not, and whatever else the work raises."""
        try:
            for attempt in stamina.retry_context(
                on=_Patience(), attempts=None, timeout=_PATIENCE_SECONDS, wait_initial=0.02, wait_max=2.0, wait_jitter=0.05
            ):
                with attempt:
                    return work()
        except psycopg.Error as error:
            raise _final(error) from error
        except MovedError as error:
            raise DatabaseUnavailableError(
                "The rows of this import kept changing under it. Try again when other writers are done."
            ) from error
        raise AssertionError("the retry loop ends by returning or raising")

    def close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()


def _final(error: psycopg.Error) -> DatabaseError:
    """What to tell when trying again did not help."""
    if error.sqlstate in _RACE_STATES:
        constraint = error.diag.constraint_name
        return DatabaseRefusedError(
            f"Table {error.diag.table_name!r} refuses records by its constraint {constraint!r}, which the resource does not declare. "
            "Mend the records, or drop the constraint.",
            constraint=constraint,
        )
    return translate(error, doing="merging records")
