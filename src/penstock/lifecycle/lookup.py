"""Looking jobs up, of whatever kind: one, a page of them, which of them changed. Nothing here changes anything."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from penstock.database.connect import Database
from penstock.database.sqlstates import translated
from penstock.errors import JobNotFoundError
from penstock.jobs.model import Job, JobId, JobType
from penstock.lifecycle import cursors, view
from penstock.lifecycle.statements import SQL

Errors = list[dict[str, Any]]  # a name that stays what it is below `list`


class JobLookup:
    """Every method may raise DatabaseError. May be used by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: JobId, *, type: JobType | None = None) -> Job:  # noqa: A002 - what everybody calls it
        """`job_id` may be the first characters of an id, if no other begins so.

        Raises JobNotFoundError, also for a job of another type than the one that is wanted.
        """
        with self._session() as connection:
            row = job_row(connection, full_id(connection, job_id))
            if type is not None:
                check_type(JobId(str(row["job_id"])), row["type"], type)
            return view.job_of(row, self._errors_of(connection, row))

    def list(
        self,
        *,
        type: JobType | None = None,  # noqa: A002 - as above
        status: str | None = None,
        resource: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None]:
        """Newest first, without their errors, and the cursor of the next page."""
        before, before_id = cursors.decoded(cursor, things="jobs")
        values = {
            "type": type,
            "status": status,
            "resource": resource,
            "limit": limit + 1,
            "before": before,
            "before_id": before_id,
        }
        with self._session() as connection, connection.cursor(row_factory=dict_row) as rows:
            jobs = [view.job_of(row, []) for row in rows.execute(SQL["list_jobs"], values)]
        more = len(jobs) > limit
        return jobs[:limit], cursors.encoded(jobs[limit - 1].created_at, jobs[limit - 1].job_id) if more else None

    def changes(self, job_ids: Collection[JobId]) -> dict[JobId, datetime]:
        """When each of the jobs changed last; those that do not exist are left out. Full ids only."""
        with self._session() as connection:
            rows = connection.execute(SQL["changes"], {"job_ids": [str(job_id) for job_id in job_ids]}).fetchall()
        return {JobId(str(job_id)): changed_at for job_id, changed_at in rows}

    def _errors_of(self, connection: psycopg.Connection[Any], row: Mapping[str, Any]) -> Errors:  # noqa: ARG002 - a kind of job that has errors needs them
        """The first errors of a job, for kinds that have any."""
        return []

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        with self._database.connection() as connection, translated("using the ledger"):
            yield connection


def check_type(job_id: JobId, found: str, wanted: JobType) -> None:
    """Raises JobNotFoundError for a job of another type than the one that is wanted."""
    if found != wanted:
        raise JobNotFoundError(f"Job {job_id} is no {wanted.lower()}; it is an {found.lower()}.", job_id=job_id)


def job_row(connection: psycopg.Connection[Any], job_id: JobId) -> dict[str, Any]:
    """Raises JobNotFoundError."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(SQL["get_job"], {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(f"There is no job {job_id}.", job_id=job_id)
    return row


def full_id(connection: psycopg.Connection[Any], given: str) -> JobId:
    """Raises JobNotFoundError for what begins no id, or several."""
    found = [str(row[0]) for row in connection.execute(SQL["find_jobs"], view.id_range(given))]
    if not found:
        raise JobNotFoundError(f"There is no job {given}.", job_id=given)
    if len(found) > 1:
        raise JobNotFoundError(f"Several jobs begin with {given}: give more of the id.", job_id=given)
    return JobId(found[0])
