"""Steps that must not be cut in two when their task is cancelled."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def uncut(step: Awaitable[T]) -> T:
    """Wait for the step to its end, then be cancelled. The step must be bounded by itself."""
    task = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:  # noqa: BLE001 - the step's own; it is raised below, when nobody cancels any more
            break
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # seen: who cancels is not told of another error
    raise cancelled
