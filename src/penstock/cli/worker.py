"""`penstock worker`."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import typer

from penstock.cli.failures import LANDED
from penstock.cli.session import Session
from penstock.loops import run
from penstock.memory import give_back_early

if TYPE_CHECKING:  # it imports Polars and the queue, which --help must not wait for
    from penstock.bootstrap import Application

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = 130
_LEAST_SECONDS = 0.5  # for closing the event log, where nothing is left of the grace
_THREADS = 4  # jobs and events have threads of their own


def worker(ctx: typer.Context) -> int:
    """Carry queued jobs and apply events until stopped. SIGTERM or Ctrl-C hands running jobs over; a second one ends at once."""
    session: Session = ctx.obj
    session.override("LOG_LEVEL", "INFO")
    give_back_early()
    with session.application() as application:
        application.check_storage()
        run(_run(application), threads=_THREADS)
    return LANDED


async def _run(application: "Application") -> None:
    from penstock.workers import Worker  # noqa: PLC0415 - see above

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    deadline = loop.time()

    def received() -> None:
        nonlocal deadline
        if stop.is_set():
            os._exit(_AT_ONCE)
        deadline = loop.time() + application.settings.shutdown_grace_seconds
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, received)
    await application.events.check()
    try:
        await Worker(application).run(stop)
    finally:
        await application.events.close(max(deadline - loop.time(), _LEAST_SECONDS))
