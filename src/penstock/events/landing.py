"""Bringing the events of a batch to the products: all at once as a rule, and in pieces where some of them are in the way of the others."""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

import psycopg
import stamina

from penstock.database.queries import load
from penstock.events.model import Event
from penstock.events.patience import Failure, failure_of
from penstock.events.postgres.faults import translate
from penstock.events.products import Products

Connection = psycopg.Connection[Any]
T = TypeVar("T")
Group = list[int]  # where the events of one product stand in the batch, the greatest last

SQL = load("penstock.events", "applying.sql")

LOCK_TIMEOUT = "500ms"  # below PostgreSQL's deadlock_timeout: who waits crosswise is found out by this, and nobody else is ended for it
_SHORT_LOCK_TIMEOUT = "20ms"  # once it is known that somebody is in the way
_LOCK_SECONDS = 1.0  # for finding out what of a batch is locked; what is left then is put off as if it were
_QUICK_TRIES = 3  # of the whole batch, after a deadlock or a serialization failure


class Pieces:
    """Does work on many things at once, each time in a savepoint; where it fails, in halves, and so on: one that always fails costs a few
    more tries, and the others are done.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock_deadline: float | None = None

    def work(
        self, whole: list[T], do: Callable[[list[T]], None], apart: Callable[[list[T], psycopg.Error, Failure], list[list[T]]]
    ) -> None:
        """`apart` says what to try instead of a piece that failed. Raises DatabaseUnavailableError."""
        pieces = deque([whole])
        while pieces:
            piece = pieces.popleft()
            try:
                if piece is whole:
                    self._persist(whole, do)
                else:
                    self._try(piece, do)
            except psycopg.Error as error:
                pieces.extendleft(reversed(apart(piece, error, failure_of(error))))

    def first_lock(self) -> bool:
        """Whether nobody was in the way until now; from now on others are waited for only shortly."""
        first = self._lock_deadline is None
        if first:
            self._lock_deadline = monotonic() + _LOCK_SECONDS
            self.connection.execute(SQL["patience"], {"lock_timeout": _SHORT_LOCK_TIMEOUT})
        return first

    def may_halve(self, piece: Sequence[T], failure: Failure) -> bool:
        if failure is Failure.LOCKED:
            self.first_lock()
        late = failure is Failure.LOCKED and self._lock_deadline is not None and monotonic() > self._lock_deadline
        return len(piece) > 1 and not late

    def _persist(self, whole: list[T], do: Callable[[list[T]], None]) -> None:
        for attempt in stamina.retry_context(
            on=_is_race, attempts=_QUICK_TRIES, timeout=None, wait_initial=0.02, wait_max=0.2, wait_jitter=0.05
        ):
            with attempt:
                self._try(whole, do)

    def _try(self, piece: list[T], do: Callable[[list[T]], None]) -> None:
        with self.connection.transaction():
            do(piece)


def halves(piece: list[T]) -> list[list[T]]:
    middle = len(piece) // 2
    return [piece[:middle], piece[middle:]]


def _is_race(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and error.sqlstate in ("40001", "40P01")


class Landing:
    """Events of one batch, by product. Those that could not be brought there stand in `failed` with what was in the way."""

    def __init__(self, pieces: Pieces, products: Products, events: Sequence[Event]) -> None:
        self.applied = 0
        self.superseded = 0
        self.failed: dict[int, psycopg.Error] = {}
        self._pieces = pieces
        self._products = products
        self._events = events
        self._probed = False

    def land(self, groups: list[Group]) -> None:
        """Raises DatabaseUnavailableError; DatabaseRefusedError where nothing can be written to the table, whatever the event."""
        if groups:
            self._pieces.work(groups, self._write, self._apart)

    def _write(self, groups: list[Group]) -> None:
        won = self._products.write(self._pieces.connection, [self._events[group[-1]] for group in groups])
        self.applied += won
        self.superseded += sum(map(len, groups)) - won

    def _apart(self, groups: list[Group], error: psycopg.Error, failure: Failure) -> list[list[Group]]:
        if failure is Failure.LOCKED and self._pieces.first_lock():
            return self._without_locked(groups, error)
        if failure is Failure.FOR_GOOD:
            self._probe()
        if self._pieces.may_halve(groups, failure):
            return halves(groups)
        if failure is Failure.LOCKED:
            self._put_off(groups, error)
            return []
        # Of several events of the product the next one may be sound.
        *rest, greatest = groups[0]
        self.failed[greatest] = error
        return [[rest]] if rest else []

    def _without_locked(self, groups: list[Group], error: psycopg.Error) -> list[list[Group]]:
        """The products that nobody has, and those that are not there, which another transaction may be about to insert."""
        stored = self._products.lock_free(self._pieces.connection, [self._id(group) for group in groups])
        self._put_off([group for group in groups if stored.get(self._id(group)) is False], error)
        free = [group for group in groups if stored.get(self._id(group))]
        unknown = [group for group in groups if self._id(group) not in stored]
        return [part for part in (free, unknown) if part]

    def _put_off(self, groups: list[Group], error: psycopg.Error) -> None:
        self.failed.update((position, error) for group in groups for position in group)

    def _probe(self) -> None:
        if self._probed:
            return
        self._probed = True
        try:
            with self._pieces.connection.transaction():
                self._products.probe(self._pieces.connection)
        except psycopg.Error as error:
            failure_of(error)
            raise translate(error, doing="products were written") from error

    def _id(self, group: Group) -> str:
        return self._events[group[-1]].product_id
