"""Ctrl-C, SIGTERM and SIGHUP during an import or an export: the first asks it to stop, the second ends the process at once."""

import contextvars
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Generic, Self, TypeVar

from penstock.cli.session import Session

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.1  # how soon the first signal is answered on the screen
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupts:
    """Holds the signal handlers while it is entered. Only for the main thread: Python delivers signals there.

    The work runs in a thread beside it: a signal is then answered although a long call into a library is under way.
    """

    def __init__(self, session: Session) -> None:
        self.cancel = threading.Event()
        self._session = session
        self._working = False
        self._parting = b""
        self._leave: Callable[[], None] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's SIGHUP stays ignored
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        if self.cancel.is_set():
            if sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR)
            os.write(2, self._parting)
            if self._leave is not None:
                self._leave()
            os._exit(130)
        self.cancel.set()
        if not self._working:
            self._session.interrupted = True
            raise KeyboardInterrupt

    @contextmanager
    def parting(self, words: str, leave: Callable[[], None] | None = None) -> Iterator[None]:
        """What the second signal leaves on standard error, and does; `leave` must not wait for anything."""
        self._parting, self._leave = f"{words}\n".encode() if words else b"", leave
        try:
            yield
        finally:
            self._parting, self._leave = b"", None

    def run(self, work: Callable[[], T], on_first: Callable[[], None]) -> T:
        """What `work` returns or raises. `on_first` is called once, in this thread, after the first signal; what it raises comes out."""
        worker = _Worker(work)
        self._working = True
        try:
            worker.start()
            told = False
            while worker.is_alive():
                worker.join(_LOOK_SECONDS)
                if self.cancel.is_set() and not told and worker.is_alive():
                    told = True
                    on_first()
        finally:
            self._working = False
        return worker.outcome()


class _Worker(threading.Thread, Generic[T]):
    """A daemon, so that ending at once never waits for it. It sees the context variables (the log's facts) of its starter."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="import", daemon=True)
        self._work = work
        self._context = contextvars.copy_context()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result.append(self._context.run(self._work))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            self._error = error

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]
