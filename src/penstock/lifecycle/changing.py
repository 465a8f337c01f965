"""What people do to a job: make it, cancel it, let it go on. Each in the caller's transaction, with the job's row held."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from penstock.errors import InvalidStateError, JobNotFoundError
from penstock.jobs.model import JobId, JobStatus, JobType
from penstock.lifecycle.claiming import close_unowned, is_owned
from penstock.lifecycle.lookup import check_type
from penstock.lifecycle.statements import SQL
from penstock.queue import Queue

Connection = psycopg.Connection[Any]


def cancel(connection: Connection, job_id: JobId, type: JobType, *, file_hours: int) -> None:  # noqa: A002 - what everybody calls it
    """Whoever works on the job is told to stop; one that nobody works on is cancelled at once.

    Raises InvalidStateError once it is finished, JobNotFoundError also for a job of another type.
    """
    status = _locked_status(connection, job_id, type)
    if status.finished:
        raise InvalidStateError(f"The job is {status} already.", job_id=job_id, status=status)
    connection.execute(SQL["request_cancel"], {"job_id": job_id})
    if not _owned(connection, job_id):
        close_unowned(connection, job_id, JobStatus.CANCELLED, None, file_hours=file_hours)


def reopen(connection: Connection, job_id: JobId, type: JobType) -> None:  # noqa: A002 - as above
    """A FAILED or CANCELLED job is PENDING again. Raises InvalidStateError for others, JobNotFoundError."""
    status = _locked_status(connection, job_id, type)
    if status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise InvalidStateError(f"Only a failed or cancelled job can go on; this one is {status}.", job_id=job_id, status=status)
    connection.execute(SQL["reopen_job"], {"job_id": job_id})


def retry(connection: Connection, job_id: JobId, type: JobType, queue: Queue) -> None:  # noqa: A002 - as above
    """The same, and a worker is woken for it. The attempts so far do not count any more."""
    reopen(connection, job_id, type)
    connection.execute(SQL["queue_again"], {"job_id": job_id})
    queue.wake(connection, job_id, type)


def _locked_status(connection: Connection, job_id: JobId, type: JobType) -> JobStatus:  # noqa: A002 - as above
    row = connection.execute(SQL["lock_job"], {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(f"There is no job {job_id}.", job_id=job_id)
    check_type(job_id, row[-1], type)
    return JobStatus(row[0])


def _owned(connection: Connection, job_id: JobId) -> bool:
    with connection.cursor(row_factory=dict_row) as cursor:
        last = cursor.execute(SQL["last_attempt"], {"job_id": job_id}).fetchone()
    return is_owned(last)
