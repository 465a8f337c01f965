"""Storage works in threads; here is what lets the event loop wait for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_GATHERED_BYTES = 1024 * 1024  # a thread for each small chunk would cost more than what it does


async def in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Waits to the end also when the task is cancelled, and is cancelled then: the thread goes on anyway, and what it works on must not
    be closed, or aborted, under it. The function must be bounded by itself.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:  # noqa: BLE001 - the function's own; it is raised below, unless somebody cancels
            break
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # seen: who cancels is not told of another error
    raise cancelled


async def pour(chunks: AsyncIterator[bytes], write: Callable[[bytes], object]) -> None:
    """All chunks, gathered to about a MiB, through `write` in threads."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        if len(held) >= _GATHERED_BYTES:
            await in_thread(write, bytes(held))
            held.clear()
    if held:
        await in_thread(write, bytes(held))


async def streamed(blocks: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    """The same blocks for the event loop; closing this closes them."""
    try:
        while (block := await in_thread(next, blocks, None)) is not None:
            yield block
    finally:
        blocks.close()
