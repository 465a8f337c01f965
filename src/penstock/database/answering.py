"""A connection that does not wait for ever: the server's own limits end nothing where its process hangs and its machine still answers."""

import math
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.rows import TupleRow

T = TypeVar("T")

_LOOK_SECONDS = 0.1  # between two looks at the clock while nothing comes


class NoAnswerError(psycopg.OperationalError):
    """The connection is closed."""


class AnsweredConnection(psycopg.Connection[TupleRow]):
    """One that is silent for `answer_seconds` in the middle of a statement is closed, and NoAnswerError raised.

    Nothing is known then of what the server had been told: it may still be done, and committed.
    """

    answer_seconds: float = math.inf  # should be more than the server's own limits, so that they come first

    def wait(self, gen: Generator[Any, Any, T], interval: float = _LOOK_SECONDS, timeout: float | None = None) -> T:
        """Every answer is waited for here."""
        more = {} if timeout is None else {"timeout": timeout}  # older drivers have no such parameter
        try:
            return super().wait(_until_silent(gen, self.answer_seconds), interval, **more)
        except NoAnswerError:
            self.close()  # at once: what cleans up after this error would wait as long again
            raise


def _until_silent(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """What it yields is what it waits for; it is sent what has come, and something false when nothing has for a moment."""
    heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            if come := (yield wanted):
                heard = time.monotonic()
            elif time.monotonic() - heard >= seconds:
                raise NoAnswerError(f"the server has not answered for {seconds:g} s: the connection was closed")
            wanted = gen.send(come)
    except StopIteration as end:
        value: T = end.value
        return value
