"""Claiming a job: one process owns it, known by a raised fence and a lease; and closing the books of a job that nobody owns."""

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import is_conflict
from penstock.errors import CancelledError, InvalidStateError, JobNotFoundError, PenstockError, TooManyAttemptsError
from penstock.jobs.model import Epoch, JobId, JobStatus
from penstock.lifecycle.attempt import failure_of
from penstock.lifecycle.process import ProcessIdentity, is_gone, this_process
from penstock.lifecycle.statements import SQL

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


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a process claims. `patient`: wait for the lease of an attempt that may be alive. `max_attempts`: None is without limit."""

    lease_seconds: int
    file_hours: int
    patient: bool = True
    max_attempts: int | None = None


def claim(
    connection: Connection,
    job_id: JobId,
    terms: Terms,
    *,
    cancel: threading.Event,
    waiting: Callable[[float], None] | None = None,
) -> Claim | None:
    """Make this process the owner of a PENDING job, or of a PROCESSING one whose owner is gone.

    While another attempt holds a lease this waits for it to end, a little longer than one lease, and calls `waiting` with the seconds left.
    None: the job has ended, by the attempt that was waited for or because it had its last attempt. Raises InvalidStateError for a job
    that was finished before, or one whose owner is alive, and CancelledError when `cancel` is set meanwhile. `connection` is in
    autocommit mode.
    """
    deadline = time.monotonic() + terms.lease_seconds + 5
    waited = False
    while True:
        try:
            claimed = _try_claim(connection, job_id, terms)
        except psycopg.Error as error:
            if not is_conflict(error):
                raise
            claimed = _make_way(connection, job_id)
        except InvalidStateError:
            if waited:
                return None
            raise
        waited = True
        if not isinstance(claimed, float):
            return claimed
        if time.monotonic() > deadline or (claimed > 0 and not terms.patient):
            raise InvalidStateError("Another process works on this job and is alive. Wait for it, or cancel the job first.", job_id=job_id)
        if waiting is not None:
            waiting(claimed)
        if cancel.wait(min(claimed, _POLL_SECONDS) + 0.01):
            raise CancelledError("Cancelled while waiting for the job; it was not touched.", job_id=job_id)


def _try_claim(connection: Connection, job_id: JobId, terms: Terms) -> Claim | float | None:
    """The claim; the seconds left of another's lease; or None where the job had its last attempt and is FAILED now."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SQL["claim_patience"])
        job = cursor.execute(SQL["lock_job"], {"job_id": job_id}).fetchone()
        if job is None:
            raise JobNotFoundError(f"There is no job {job_id}.", job_id=job_id)
        status = JobStatus(job["status"])
        if status.finished:
            raise InvalidStateError(f"The job is {status} and has nothing left to do.", job_id=job_id, status=status)
        last = cursor.execute(SQL["last_attempt"], {"job_id": job_id}).fetchone()
        if is_owned(last):
            assert last is not None
            return max(float(last["lease_seconds_left"]), _POLL_SECONDS)
        if terms.max_attempts is not None and job["attempts"] - job["attempts_excused"] >= terms.max_attempts:
            _set_aside(connection, job_id, terms)
            return None
        return _take(cursor, job_id, job, terms.lease_seconds)


def _make_way(connection: Connection, job_id: JobId) -> float:
    """Seconds left of the lease of whoever may hold the job's row. Past its lease it stands still in the middle of the job's end, and its
    sessions are ended; then there is nothing to wait for.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        last = cursor.execute(SQL["last_attempt"], {"job_id": job_id}).fetchone()
    if last is not None and is_owned(last):
        return max(float(last["lease_seconds_left"]), _POLL_SECONDS)
    connection.execute(SQL["end_sessions"], {"prefix": session_name(job_id)})
    return 0.0


def is_owned(last: dict[str, Any] | None) -> bool:
    """Whether the last attempt may still be at work: its lease lives, and its process is not known to be gone."""
    return bool(last and last["leased"] and not is_gone(ProcessIdentity(last["host"], last["pid"], last["process_started"])))


def _set_aside(connection: Connection, job_id: JobId, terms: Terms) -> None:
    row = connection.execute(SQL["last_failure"], {"job_id": job_id}).fetchone()
    last = None if row is None else row[0]
    reason = f" The last word of one of them: {last['message']}" if last else " None of them left a word: their process died or was killed."
    error = TooManyAttemptsError(
        f"After {terms.max_attempts} attempts that came to no end this job is set aside.{reason} Retry it once the cause is mended.",
        attempts=terms.max_attempts,
        last_error=last,
    )
    close_unowned(connection, job_id, JobStatus.FAILED, error, file_hours=terms.file_hours)


def close_unowned(connection: Connection, job_id: JobId, status: JobStatus, error: PenstockError | None, *, file_hours: int) -> None:
    """The end of a job that nobody works on; the caller's transaction holds its row.

    The fence goes up first: an attempt that was only paused must not write into closed books. Nor must its open transaction, which holds
    the fence, keep the job from ending.
    """
    connection.execute(SQL["end_sessions"], {"prefix": session_name(job_id)})
    connection.execute(SQL["raise_fence"], {"job_id": job_id})
    unknown = dict.fromkeys(("total_rows", "warnings", "error_summary"))
    failure = None if error is None else jsonb(failure_of(error))
    connection.execute(SQL["close_books"], {"job_id": job_id, "status": status, "failure": failure, "file_hours": file_hours, **unknown})
    connection.execute(SQL["end_all_attempts"], {"job_id": job_id})


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
