"""A server: the API on Granian and a worker, in one process and on one event loop, until it is told to stop."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from penstock.api.app import MOST_REQUESTS, create_app
from penstock.bootstrap import Application
from penstock.database.keeping import keep_up
from penstock.errors import PenstockError, SettingsError
from penstock.logs import get_logger
from penstock.loops import run

_THREADS = 16  # for the services' calls; most of them wait for a connection of the pool, which is smaller
_BACKLOG = 1024
# A head above twice this is refused by the server itself, and one that does not come in time is cut off.
_HTTP1 = HTTP1Settings(header_read_timeout=15_000, keep_alive=True, max_buffer_size=64 * 1024)
_START_SECONDS = 15.0
_KEEP_UP_SECONDS = 2.0
_LEAST_PAUSE, _MOST_PAUSE = 1.0, 30.0
# Imports run in threads of this process, and a request changes threads several times; with Python's 5 ms it may wait so long each time.
# With two huge imports under way on two cores a job was shown in 21 ms instead of 46, a small one taken in 43 instead of 378 (medians).
_SWITCH_SECONDS = 0.0005
_RESERVE_SECONDS = 2.0  # of the grace, for answering what is cut off and for closing what is open
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """`announce` is called with the server's address once it answers."""

    application: Application
    host: str  # an IP address
    port: int
    with_worker: bool
    announce: Callable[[str], None]

    def run(self) -> int:
        """Until SIGTERM or SIGINT, and then for SHUTDOWN_GRACE_SECONDS at most; a second signal ends the process at once.

        Returns the exit status: 0, or 1 if the server ended by itself. Raises SettingsError where the port is taken.
        """
        check_port(self.host, self.port)
        logging.getLogger("_granian").setLevel(logging.ERROR)  # what it says besides is that it is embedded, and where it listens
        sys.setswitchinterval(_SWITCH_SECONDS)
        return run(self._run(), threads=_THREADS)

    async def _run(self) -> int:
        stopping, silent = asyncio.Event(), asyncio.Event()
        _on_signals(stopping)
        await self.application.events.check()
        server = self._server(stopping)
        serving = asyncio.create_task(server.serve(), name="server")
        serving.add_done_callback(lambda _: silent.set())
        others = [asyncio.create_task(each, name=name) for name, each in self._companions(stopping, silent).items()]
        try:
            await self._announce(serving)
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({serving, stopped, *others}, return_when=asyncio.FIRST_COMPLETED)
            return 0 if stopping.is_set() else _ended_by_itself([serving, *others])
        finally:
            stopping.set()
            deadline = time.monotonic() + self.application.settings.shutdown_grace_seconds
            server.stop()  # type: ignore[no-untyped-call]  # Granian has no types there
            await self._wait_for([serving, *others])
            left = deadline - time.monotonic() - _RESERVE_SECONDS / 2
            await self.application.events.close(max(left, _RESERVE_SECONDS / 4))
            get_logger(__name__).info("stopped")

    def _server(self, stopping: asyncio.Event) -> Server:
        return Server(
            create_app(self.application, stopping=stopping),
            address=self.host,
            port=self.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,  # where it waits to see which protocol is spoken, a silent connection stays for ever
            backlog=_BACKLOG,
            backpressure=MOST_REQUESTS + 100,  # above the application's own bound, which answers instead of letting wait
            http1_settings=_HTTP1,
            websockets=False,
            log_enabled=False,
        )

    def _companions(self, stopping: asyncio.Event, silent: asyncio.Event) -> dict[str, Coroutine[Any, Any, None]]:
        settings = self.application.settings
        companions = {}
        if self.with_worker:
            companions["worker"] = _kept_working(self.application, stopping, silent)
        if settings.embedded:
            companions["database"] = _kept_up(partial(keep_up, settings.penstock_data_dir), stopping)
        return companions

    async def _announce(self, serving: asyncio.Task[None]) -> None:
        """Once a connection is taken; what the server says of itself comes before that."""
        deadline = time.monotonic() + _START_SECONDS
        while not serving.done() and time.monotonic() < deadline:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(self.host, self.port)
                writer.close()
                self.announce(f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}")
                return
            await asyncio.sleep(0.01)

    async def _wait_for(self, tasks: list[asyncio.Task[None]]) -> None:
        """What is not over in time is cut, and told."""
        log = get_logger(__name__)
        grace = self.application.settings.shutdown_grace_seconds
        log.info("stopping", grace_seconds=grace)
        done, late = await asyncio.wait(tasks, timeout=grace - min(_RESERVE_SECONDS, grace / 2))
        for task in late:
            log.error("did not end in time and is cut off", what=task.get_name())
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("failed while stopping", what=task.get_name(), exc_info=error)


def _ended_by_itself(tasks: list[asyncio.Task[None]]) -> int:
    """Tell what ended that never should; the exit status."""
    for task in tasks:
        if task.done():
            get_logger(__name__).error("ended by itself, and the process with it", what=task.get_name(), exc_info=task.exception())
    return 1


def check_port(host: str, port: int) -> None:
    """Raises SettingsError if it cannot be listened at. Granian itself would share a port that another server has already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortError(f"Cannot listen at {host}, port {port}: {error.strerror}. End what uses it, or choose another port.") from error


class PortError(SettingsError):
    """The settings are sound, but not on this machine now: an ordinary failure (exit status 1)."""

    exit_code = 1


def _on_signals(stopping: asyncio.Event) -> None:
    def received() -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, received)


async def _kept_working(application: Application, stopping: asyncio.Event, silent: asyncio.Event) -> None:
    """A worker that fails is started again; what it had under way is claimed anew when its lease ends."""
    pause = _LEAST_PAUSE
    while not stopping.is_set():
        try:
            from penstock.workers import Worker  # noqa: PLC0415 - the queue's library, which a server without a worker does not need

            await Worker(application).run(stopping, silent=silent)
            if stopping.is_set():
                return
            get_logger(__name__).error("the worker ended by itself; it is started again", seconds=pause)
        except Exception:  # noqa: BLE001 - told, and tried again
            get_logger(__name__).exception("the worker failed; it is started again", seconds=pause)
        await _pause(stopping, pause)
        pause = min(pause * 2, _MOST_PAUSE)


async def _kept_up(look: Callable[[], bool], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            await asyncio.to_thread(look)
        except PenstockError as error:
            get_logger(__name__).error("the embedded PostgreSQL does not come up", reason=error.message)
        except Exception:  # noqa: BLE001 - told, and looked again
            get_logger(__name__).exception("cannot look after the embedded PostgreSQL")
        await _pause(stopping, _KEEP_UP_SECONDS)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
