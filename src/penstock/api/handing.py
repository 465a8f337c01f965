"""What a thread makes, piece by piece, handed to the event loop as fast as the client takes it and no faster.

Each maker has a thread of its own: it may wait for a slow client for hours, and the threads that all requests share must not.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from contextvars import copy_context
from typing import Self

from penstock.errors import CancelledError
from penstock.logs import get_logger

PIECES_AHEAD = 2  # of about 1 MiB: these wait here while one is sent and the thread makes one more
_END_SECONDS = 5.0
_AGAIN_SECONDS = 0.2


class Handing:
    """`make` runs in the thread and yields the pieces; `cancel` ends it wherever it is, and is called by other threads.

    Enter it in a task; `next` gives the pieces. Leaving it ends the thread, whatever it does.
    """

    def __init__(self, make: Callable[[], Generator[bytes, None, None]], cancel: Callable[[], None], *, name: str) -> None:
        self._make, self._cancel = make, cancel
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(PIECES_AHEAD)
        self._left = threading.Event()
        self._ended = asyncio.Event()
        # A daemon: a process that stops does not wait for it for ever.
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name=name, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ended.is_set():
            return
        self._left.set()
        self._room.release()
        threading.Thread(target=self._end, name=f"{self._thread.name}-end", daemon=True).start()
        try:
            await asyncio.wait_for(self._ended.wait(), _END_SECONDS)
        except TimeoutError:
            get_logger(__name__).error("a thread did not end in time and is left behind", thread=self._thread.name)

    def _end(self) -> None:
        """What has not begun when it is cancelled may begin after that: it is cancelled again until it has ended."""
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - began < _END_SECONDS:
            self._cancel()
            self._thread.join(_AGAIN_SECONDS)

    async def next(self) -> bytes | None:
        """The next piece, None behind the last. Raises what `make` raised."""
        piece = await self._pieces.get()
        self._room.release()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            with closing(self._make()) as pieces:
                for piece in pieces:
                    self._hand(piece)
        except BaseException as error:  # noqa: BLE001 - it is raised where the pieces are taken
            end = error
        self._tell(end)

    def _hand(self, piece: bytes) -> None:
        self._room.acquire()
        if self._left.is_set():
            raise CancelledError("Nobody takes the pieces any more.")
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    def _tell(self, end: BaseException | None) -> None:
        def told() -> None:
            self._pieces.put_nowait(end)
            self._ended.set()

        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(told)
