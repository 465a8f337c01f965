"""Running a process that serves or works: on uvloop where it is installed, on which a server answers a tenth more requests."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_TIDY_SECONDS = 0.5


def run(main: Coroutine[Any, Any, _Result], *, threads: int) -> _Result:
    """As `asyncio.run`, with so many threads for `asyncio.to_thread`; but at the end nothing waits for threads that hang: whoever stops
    has given them their time. Tasks that are left are cancelled, and have half a second.
    """
    loop = _new_event_loop()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="penstock")
    loop.set_default_executor(executor)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_tidy())
        executor.shutdown(wait=False, cancel_futures=True)
        loop.close()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - absent on Windows, and commands that serve nothing need not load it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _tidy() -> None:
    """Let what is left end, for a moment: requests that are cut off take back in threads what they have begun."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_TIDY_SECONDS)
