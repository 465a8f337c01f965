"""A circuit breaker: after so many failures in a row nobody tries for a while, and then one try decides."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from penstock.errors import CircuitOpenError, DatabaseRefusedError, DatabaseUnavailableError, EventLogUnavailableError
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
    """Around what may be away. May be used by several threads.

    Outages count as failures. An answer counts as a success, a refusal by the database too. What ended without an answer, such as a try
    that was cancelled, says nothing.

    Open, it refuses for `timeout_seconds`; whoever comes first after that is let through, closes it by succeeding, and opens it again by
    failing. Meanwhile all others are refused.
    """

    def __init__(self, name: str, *, threshold: int, timeout_seconds: float) -> None:
        self.name = name
        self._threshold = threshold
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._open_until: float | None = None  # of the monotonic clock; None: closed
        self._probing = False
        _known.add(self)

    @property
    def open(self) -> bool:
        return self._open_until is not None

    def seconds_left(self) -> float:
        """Until it may be tried again; 0 where it may be now."""
        until = self._open_until
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def check(self) -> None:
        """Raises CircuitOpenError while nobody should try."""
        if (left := self.seconds_left()) > 0:
            raise self._refusal(left)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around one try, whose end is counted. Raises CircuitOpenError instead of letting it begin."""
        probe = self._enter()
        answered = failed = False
        try:
            yield
            answered = True
        except DatabaseRefusedError:
            answered = True
            raise
        except CircuitOpenError:
            raise
        except _OUTAGES:
            failed = True
            raise
        finally:
            if failed:
                self._fail(probe=probe)
            elif answered:
                self._succeed(probe=probe)
            elif probe:
                self._probing = False  # the next one is the probe

    def fail(self) -> None:
        """Count an outage that was seen in another way."""
        self._fail(probe=False)

    def _enter(self) -> bool:
        """Whether this try is the one that decides."""
        with self._lock:
            if self._open_until is None:
                return False
            left = self._open_until - time.monotonic()
            if left > 0 or self._probing:
                raise self._refusal(left)
            self._probing = True
            return True

    def _fail(self, *, probe: bool) -> None:
        with self._lock:
            self._failures += 1
            was_open = self._open_until is not None
            if probe:
                self._probing = False
            # One that began before the circuit opened tells nothing new.
            opens = probe or (not was_open and self._failures >= self._threshold)
            if opens:
                self._open_until = time.monotonic() + self._timeout_seconds
        if opens:
            log = get_logger(__name__)
            tell = log.info if was_open else log.error
            tell("circuit opened: nothing is tried for a while", circuit=self.name, seconds=self._timeout_seconds, failures=self._failures)

    def _succeed(self, *, probe: bool) -> None:
        if not self._failures and not probe:
            return  # as nearly always: without the lock
        with self._lock:
            if probe:
                self._probing = False
                self._open_until = None
            if self._open_until is None:
                self._failures = 0
        if probe:
            get_logger(__name__).info("circuit closed", circuit=self.name)

    def _refusal(self, left: float) -> CircuitOpenError:
        seconds = max(1, math.ceil(left))
        return CircuitOpenError(
            f"{self.name} was away several times in a row and is left alone for {seconds} s. Try again then.", retry_after_seconds=seconds
        )
