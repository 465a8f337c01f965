"""A circuit breaker: after so many failures in a row nobody tries for a while, and then one try decides."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from purgatory.domain.model import OPENED, Context, OpenedState

from penstock.errors import CircuitOpenError, DatabaseUnavailableError, EventLogUnavailableError
from penstock.logs import get_logger

_known: WeakSet["Breaker"] = WeakSet()
_OUTAGES = (DatabaseUnavailableError, EventLogUnavailableError)


def circuits() -> dict[str, bool]:
    """By name, whether a circuit of this process is open; those of one name count as one."""
    found: dict[str, bool] = {}
    for breaker in list(_known):
        found[breaker.name] = found.get(breaker.name, False) or breaker.open
    return found


class Breaker:
    """Around what may be away. Only outages count as failures. May be used by several threads.

    Open, it refuses for `timeout_seconds`; whoever comes first after that is let through, closes it by succeeding, and opens it again by
    failing.
    """

    def __init__(self, name: str, *, threshold: int, timeout_seconds: float) -> None:
        self.name = name
        _known.add(self)
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._context = Context(name, threshold, timeout_seconds, exclude=[(BaseException, _is_no_outage)])
        self._trying = False

    @property
    def open(self) -> bool:
        return self._context.state == OPENED

    def seconds_left(self) -> float:
        """Until it may be tried again; 0 where it may be now."""
        if not self.open:
            return 0.0
        opened_at = self._context.opened_at or 0.0
        return min(max(0.0, opened_at + self._timeout_seconds - time.time()), self._timeout_seconds)

    def check(self) -> None:
        """Raises CircuitOpenError while nobody should try."""
        if (left := self.seconds_left()) > 0:
            raise self._refusal(left)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around one try, whose end is counted. Raises CircuitOpenError instead of letting it begin."""
        with self._lock:
            self._enter()
        try:
            yield
        except BaseException as error:
            self._count(error)
            raise
        else:
            self._count(None)

    def _enter(self) -> None:
        if self._trying:
            raise self._refusal(1.0)
        was_open = self.open
        try:
            self._context.handle_new_request()
        except OpenedState as refused:
            refused.__traceback__ = None  # one and the same object is raised each time, and would grow
            raise self._refusal(self.seconds_left()) from None
        self._trying = was_open

    def _count(self, error: BaseException | None) -> None:
        with self._lock:
            before = self._context.state
            if error is None:
                self._context.handle_end_request()
            else:
                self._context.handle_exception(error)
            self._context.messages.clear()
            self._trying = False
            after = self._context.state
        if before != after:
            log = get_logger(__name__)
            if after == OPENED:
                log.error("circuit opened: nothing is tried for a while", circuit=self.name, seconds=self._timeout_seconds)
            else:
                log.info("circuit closed", circuit=self.name)

    def _refusal(self, left: float) -> CircuitOpenError:
        seconds = max(1, math.ceil(left))
        return CircuitOpenError(
            f"{self.name} was away several times in a row and is left alone for {seconds} s. Try again then.", retry_after_seconds=seconds
        )


def _is_no_outage(error: BaseException) -> bool:
    return not isinstance(error, _OUTAGES)
