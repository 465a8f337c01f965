"""An attempt at a job: claimed in the ledger, kept alive by heartbeats, over when another one raises the fence."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from penstock.database.sqlstates import is_conflict
from penstock.errors import CancelledError, InvalidStateError, JobNotFoundError
from penstock.imports.ledger import SQL, Ledger
from penstock.imports.process import ProcessIdentity, is_gone, this_process
from penstock.jobs.model import Epoch, JobId, JobStatus
from penstock.logs import get_logger

Connection = psycopg.Connection[Any]
_POLL_SECONDS = 0.25


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt works on: the job's row as it was when it was claimed."""

    job_id: JobId
    epoch: Epoch
    resource: str
    attempts: int
    options: dict[str, Any]
    reading: dict[str, Any]
    source: dict[str, Any]
    dialect: dict[str, Any] | None
    cancel_requested: bool


def claim(
    connection: Connection,
    job_id: JobId,
    *,
    lease_seconds: int,
    cancel: threading.Event,
    waiting: Callable[[float], None] | None = None,
) -> Claim | None:
    """Make this process the owner of a PENDING job, or of a PROCESSING one whose owner is gone.

    While another attempt holds a lease this waits for it to end, a little longer than one lease, and calls `waiting` with the seconds left.
    None: the attempt that was waited for finished it. Raises InvalidStateError for a job that was finished before, or one whose owner is
    alive, and CancelledError when `cancel` is set meanwhile. `connection` is in autocommit mode.
    """
    deadline = time.monotonic() + lease_seconds + 5
    waited = False
    while True:
        try:
            claimed, seconds_left = _try_claim(connection, job_id, lease_seconds)
        except psycopg.Error as error:
            if not is_conflict(error):
                raise
            claimed, seconds_left = None, 0.0
        except InvalidStateError:
            if waited:
                return None
            raise
        waited = True
        if claimed is not None:
            return claimed
        if time.monotonic() > deadline:
            raise InvalidStateError("Another process works on this job and is alive. Wait for it, or cancel the job first.", job_id=job_id)
        if waiting is not None:
            waiting(seconds_left)
        if cancel.wait(min(max(seconds_left, 0), _POLL_SECONDS) + 0.01):
            raise CancelledError("Cancelled while waiting for the job; it was not touched.", job_id=job_id)


def _try_claim(connection: Connection, job_id: JobId, lease_seconds: int) -> tuple[Claim | None, float]:
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        job = cursor.execute(SQL["lock_job"], {"job_id": job_id}).fetchone()
        if job is None:
            raise JobNotFoundError(f"There is no job {job_id}.", job_id=job_id)
        status = JobStatus(job["status"])
        if status.finished:
            raise InvalidStateError(f"The job is {status} and has nothing left to do.", job_id=job_id, status=status)
        last = cursor.execute(SQL["last_attempt"], {"job_id": job_id}).fetchone()
        if is_owned(last):
            assert last is not None
            return None, float(last["lease_seconds_left"])
        return _take(cursor, job_id, job, lease_seconds), 0.0


def is_owned(last: dict[str, Any] | None) -> bool:
    """Whether the last attempt may still be at work: its lease lives, and its process is not known to be gone."""
    return bool(last and last["leased"] and not is_gone(ProcessIdentity(last["host"], last["pid"], last["process_started"])))


def _take(cursor: psycopg.Cursor[Any], job_id: JobId, job: dict[str, Any], lease_seconds: int) -> Claim:
    cursor.execute(SQL["end_sessions"], {"prefix": session_name(job_id)})
    fence = cursor.execute(SQL["raise_fence"], {"job_id": job_id}).fetchone()
    assert fence is not None
    me = this_process()
    values = {"job_id": job_id, "epoch": fence["epoch"], "lease_seconds": lease_seconds}
    cursor.execute(SQL["end_attempts_before"], values)
    cursor.execute(SQL["start_attempt"], {**values, "host": me.host, "pid": me.pid, "process_started": me.started})
    return Claim(
        job_id=job_id,
        epoch=Epoch(fence["epoch"]),
        resource=job["resource"],
        attempts=job["attempts"] + 1,
        options=job["options"],
        reading=job["reading"],
        source=job["source"],
        dialect=job["dialect"],
        cancel_requested=job["cancel_requested"],
    )


def session_name(job_id: JobId) -> str:
    """The application name of an attempt's connections: by it `pg_stat_activity` tells what works on the job, and a takeover ends it."""
    return f"penstock job {job_id}"


class Heartbeat:
    """Renews the lease in a thread of its own and brings back the wish to cancel.

    A lease that could not be renewed in time is not lost for certain; only the fence decides. `lost` is set when the fence says so.
    """

    def __init__(self, connect: Callable[[], Connection], ledger: Ledger, *, lease_seconds: int, cancel: threading.Event) -> None:
        self._connect = connect
        self._ledger = ledger
        self._lease_seconds = lease_seconds
        self._cancel = cancel
        self._stop = threading.Event()
        self.lost = threading.Event()

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
                get_logger(__name__).warning("heartbeat failed", job_id=self._ledger.job_id, kind=type(error).__name__)
                _close(connection)
                connection = None
        _close(connection)

    def _beat(self, connection: Connection) -> None:
        values = {"job_id": self._ledger.job_id, "epoch": self._ledger.epoch, "lease_seconds": self._lease_seconds}
        row = connection.execute(SQL["renew_lease"], values).fetchone()
        if row is None:
            self.lost.set()
        elif row[0]:
            self._cancel.set()


def _close(connection: Connection | None) -> None:
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()
