"""An attempt at a job: kept alive by heartbeats, over when another one raises the fence, or left for the next one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from penstock.database.jsonb import jsonb
from penstock.errors import CancelledError, HandedOverError, LeaseLostError, PenstockError
from penstock.jobs.model import Epoch, JobId, JobType
from penstock.lifecycle.statements import SQL
from penstock.logs import get_logger
from penstock.queue import Queue

Connection = psycopg.Connection[Any]
HANDED_OVER, INTERRUPTED = "handed over", "interrupted"  # outcomes of attempts that left their job unfinished


class Attempt:
    """One attempt at a job: only the newest may write."""

    def __init__(self, job_id: JobId, epoch: Epoch) -> None:
        self.job_id = job_id
        self.epoch = epoch

    def hold_fence(self, connection: Connection) -> datetime:
        """The database's time. Raises LeaseLostError when another attempt owns the job; the caller's transaction must then be dropped."""
        row = connection.execute(SQL["hold_fence"], {"job_id": self.job_id, "epoch": self.epoch}).fetchone()
        if row is None:
            raise LeaseLostError(
                "another attempt has taken over this job; this one has dropped its work", job_id=self.job_id, epoch=self.epoch
            )
        now: datetime = row[0]
        return now


@dataclass(frozen=True, slots=True)
class Signals:
    """What others may ask of a running attempt: to stop for good, to leave the job to another process; and that it lost its lease."""

    cancel: threading.Event
    handover: threading.Event
    lost: threading.Event

    def check(self, job_id: JobId) -> None:
        """Raises LeaseLostError, CancelledError, HandedOverError."""
        if self.lost.is_set():
            raise LeaseLostError("Another attempt has taken over this job.", job_id=job_id)
        if self.cancel.is_set():
            raise CancelledError("The job was cancelled.", job_id=job_id)
        if self.handover.is_set():
            raise HandedOverError("This process stops; another one goes on with the job.", job_id=job_id)


class Heartbeat:
    """Renews the lease in a thread of its own and brings back the wish to cancel.

    A lease that could not be renewed in time is not lost for certain; only the fence decides. `lost` is set when the fence says so.
    """

    def __init__(
        self, connect: Callable[[], Connection], attempt: Attempt, *, lease_seconds: int, cancel: threading.Event, lost: threading.Event
    ) -> None:
        self._connect = connect
        self._attempt = attempt
        self._lease_seconds = lease_seconds
        self._cancel = cancel
        self._stop = threading.Event()
        self.lost = lost

    @contextmanager
    def beating(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="penstock-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=self._lease_seconds)

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._stop.wait(self._lease_seconds / 4) and not self.lost.is_set():
            try:
                if connection is None or connection.closed:
                    connection = self._connect()
                self._beat(connection)
            except Exception as error:  # noqa: BLE001  # a beat that fails is tried again; the fence protects the data meanwhile
                get_logger(__name__).warning("heartbeat failed", job_id=self._attempt.job_id, kind=type(error).__name__)
                _close(connection)
                connection = None
        _close(connection)

    def _beat(self, connection: Connection) -> None:
        values = {"job_id": self._attempt.job_id, "epoch": self._attempt.epoch, "lease_seconds": self._lease_seconds}
        row = connection.execute(SQL["renew_lease"], values).fetchone()
        if row is None:
            self.lost.set()
        elif row[0]:
            self._cancel.set()


def _close(connection: Connection | None) -> None:
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()


def hand_over(connection: Connection, attempt: Attempt, queue: Queue) -> None:
    """End the attempt and wake another worker, in the caller's transaction, which holds the fence. The attempt does not count."""
    values = {"job_id": attempt.job_id, "epoch": attempt.epoch}
    connection.execute(SQL["durable_end"])
    if not connection.execute(SQL["leave_attempt"], {**values, "outcome": HANDED_OVER, "failure": None}).rowcount:
        return  # it was handed over before: an outage hid that
    row = connection.execute(SQL["excuse_attempt"], values).fetchone()
    if row is not None and row[0]:
        queue.wake(connection, attempt.job_id, JobType(row[1]))


def leave(connect: Callable[[], Connection], attempt: Attempt, error: PenstockError) -> None:
    """Say why the attempt ended before its job did, so that the next one need not wait for the lease. Tries once: the lease ends anyway."""
    try:
        with connect() as connection:
            values = {"job_id": attempt.job_id, "epoch": attempt.epoch, "outcome": INTERRUPTED}
            connection.execute(SQL["leave_attempt"], {**values, "failure": jsonb(failure_of(error))})
    except (psycopg.Error, PenstockError) as failed:
        get_logger(__name__).warning("the attempt could not say why it ended", job_id=attempt.job_id, kind=type(failed).__name__)


def failure_of(error: PenstockError) -> dict[str, Any]:
    """As the ledger keeps it: code, message, details."""
    details = msgspec.to_builtins(error.details, enc_hook=str, str_keys=True)
    return {"code": error.code, "message": error.message, "details": details}
