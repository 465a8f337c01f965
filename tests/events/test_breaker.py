"""The circuit breaker: opens after failures in a row, lets one try through, closes or opens again."""

import asyncio
import time

import pytest

from penstock.errors import CircuitOpenError, DatabaseRefusedError, DatabaseUnavailableError
from penstock.events.breaker import Breaker
from tests.support.waiting import until

_AWAY = DatabaseUnavailableError("It is away.")


def _fail(breaker: Breaker, error: Exception = _AWAY) -> None:
    with pytest.raises(type(error)), breaker.guard():
        raise error


def _opened(timeout_seconds: float) -> Breaker:
    breaker = Breaker("the database", threshold=3, timeout_seconds=timeout_seconds)
    for _ in range(3):
        _fail(breaker)
    return breaker


def test_it_opens_at_the_threshold() -> None:
    """Not before; then nothing is tried, and who asks is told for how long."""
    breaker = Breaker("the database", threshold=3, timeout_seconds=60)
    _fail(breaker)
    _fail(breaker)
    breaker.check()
    _fail(breaker)
    assert breaker.open
    assert 0 < breaker.seconds_left() <= 60
    with pytest.raises(CircuitOpenError) as refused:
        breaker.check()
    assert 1 <= refused.value.details["retry_after_seconds"] <= 60
    entered = []
    with pytest.raises(CircuitOpenError), breaker.guard():
        entered.append(True)
    assert not entered


def test_only_failures_in_a_row_count() -> None:
    """A success between them begins the count anew."""
    breaker = Breaker("the database", threshold=2, timeout_seconds=60)
    for _ in range(5):
        _fail(breaker)
        with breaker.guard():
            pass
    assert not breaker.open


def test_only_outages_count() -> None:
    """A statement that is refused says that the database is there."""
    breaker = Breaker("the database", threshold=1, timeout_seconds=60)
    _fail(breaker, DatabaseRefusedError("No."))
    _fail(breaker, ValueError("a defect"))
    assert not breaker.open


def test_one_try_closes_it() -> None:
    """After its time whoever comes first is let through; its success closes the circuit."""
    breaker = _opened(0.05)
    assert until(lambda: breaker.seconds_left() == 0)
    breaker.check()
    with breaker.guard():
        pass
    assert not breaker.open
    with breaker.guard():
        pass


def test_one_failed_try_opens_it_again() -> None:
    """However high the threshold."""
    breaker = _opened(0.05)
    assert until(lambda: breaker.seconds_left() == 0)
    _fail(breaker)
    assert breaker.open
    assert breaker.seconds_left() > 0


def test_one_at_a_time_tries() -> None:
    """While the first is under way nobody else is let through."""
    breaker = _opened(0.05)
    assert until(lambda: breaker.seconds_left() == 0)
    with breaker.guard(), pytest.raises(CircuitOpenError), breaker.guard():
        pass
    assert not breaker.open


def test_who_leaves_says_nothing() -> None:
    """Clients that leave in the middle neither end a row of failures nor close the circuit."""
    breaker = Breaker("the database", threshold=3, timeout_seconds=0.05)
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError), breaker.guard():
            raise asyncio.CancelledError
        _fail(breaker)
    assert breaker.open
    assert until(lambda: breaker.seconds_left() == 0)
    with pytest.raises(asyncio.CancelledError), breaker.guard():
        raise asyncio.CancelledError
    assert breaker.open
    with breaker.guard(), pytest.raises(CircuitOpenError), breaker.guard():
        pass
    assert not breaker.open


def test_refused_while_it_is_tried_counts_as_nothing() -> None:
    """A guard inside of another that is open raises its refusal through: nobody was asked."""
    inner = _opened(60)
    outer = Breaker("applying events", threshold=1, timeout_seconds=60)
    for _ in range(3):
        with pytest.raises(CircuitOpenError), outer.guard(), inner.guard():
            pass
    assert not outer.open


def test_late_failures_do_not_keep_it_open() -> None:
    """What began before it opened and ends later tells nothing new."""
    breaker = Breaker("the database", threshold=1, timeout_seconds=60)
    late = breaker.guard()
    late.__enter__()
    _fail(breaker)
    left = breaker.seconds_left()
    assert until(lambda: breaker.seconds_left() < left)
    left = breaker.seconds_left()
    late.__exit__(type(_AWAY), _AWAY, None)
    assert breaker.seconds_left() <= left


def test_a_machine_whose_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no clock that anybody sets."""
    breaker = _opened(0.05)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert until(lambda: breaker.seconds_left() == 0)
    with breaker.guard():
        pass
    assert not breaker.open
