"""Beside an export under way: how far it is goes into the ledger, and whoever wants it to stop is heard."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from penstock.database.queries import load
from penstock.errors import LeaseLostError, PenstockError
from penstock.exports.producing import Export
from penstock.lifecycle.attempt import Attempt, Signals
from penstock.logs import get_logger

SQL = load("penstock.exports", "jobs.sql")
Connection = psycopg.Connection[Any]

_LOOK_SECONDS = 0.1
_TELL_SECONDS = 0.5
_END_SECONDS = 30.0  # for a statement under way, when the export has ended


class Watch:
    """A thread of its own while `watching`. What goes wrong in it is logged and tried again: the fence protects the job meanwhile."""

    def __init__(
        self, connect: Callable[[], Connection], attempt: Attempt, export: Export, signals: Signals, written: Callable[[], int]
    ) -> None:
        """`written`: how many bytes are on their way into storage."""
        self._connect = connect
        self._attempt = attempt
        self._export = export
        self._signals = signals
        self._written = written
        self._over = threading.Event()
        self._connection: Connection | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="penstock-export-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(_END_SECONDS)

    def tell(self, connection: Connection) -> None:
        """In the caller's transaction. Raises LeaseLostError."""
        self._attempt.hold_fence(connection)
        values = {"total_rows": self._export.total_rows, "processed_rows": self._export.rows, "processed_bytes": self._written()}
        row = connection.execute(SQL["report_progress"], {"job_id": self._attempt.job_id, **values}).fetchone()
        if row is not None and row[0]:
            self._signals.cancel.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(_LOOK_SECONDS):
            if self._is_to_stop():
                # Again and again: a cancel that comes between two statements is not heard by the server.
                self._export.cancel()
            elif time.monotonic() >= due:
                self._try_to_tell()
                due = time.monotonic() + _TELL_SECONDS
        self._hang_up()

    def _is_to_stop(self) -> bool:
        try:
            self._signals.check(self._attempt.job_id)
        except PenstockError:
            return True
        return False

    def _try_to_tell(self) -> None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
                self._connection.execute("SET synchronous_commit = off")  # nobody needs progress after a crash
            with self._connection.transaction():
                self.tell(self._connection)
        except LeaseLostError:
            self._signals.lost.set()
        except Exception as error:  # noqa: BLE001 - see the class
            get_logger(__name__).warning("progress could not be noted", job_id=self._attempt.job_id, kind=type(error).__name__)
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
