"""How jobs are shown: the fields of a job, and where everything about it is."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from penstock.api.parameters import encoded_cursor
from penstock.bootstrap import Application
from penstock.jobs.model import ErrorSummary, Job, JobFailure, JobStatus, JobType, Mode
from penstock.storage.model import Key, Method


class JobLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything about the job is, as absolute addresses."""

    self: str
    errors: str
    rejected: str
    events: str
    cancel: str
    retry: str


class JobCreated(msgspec.Struct, frozen=True, kw_only=True):
    """A job that waits for a worker."""

    job_id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    type: JobType
    resource: str
    status: JobStatus
    created_at: datetime
    links: JobLinks


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job. Counters count records. Once finished: processed_rows = total_rows = imported_rows + updated_rows + failed_rows."""

    job_id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    type: JobType
    resource: str
    status: JobStatus
    mode: Mode
    format: Annotated[str | None, Meta(description="csv, ndjson, json or parquet; null until it is known.")]
    dry_run: bool
    source_name: Annotated[str, Meta(description="The file as its sender called it.")]
    total_rows: Annotated[int | None, Meta(description="Null until the file's end was seen.")]
    processed_rows: int
    imported_rows: int
    updated_rows: int
    unchanged_rows: Annotated[int, Meta(description="Part of updated_rows: records that stood there exactly so.")]
    failed_rows: Annotated[int, Meta(description="Rejected records, each once, however many problems it has.")]
    total_bytes: int
    processed_bytes: int
    progress: Annotated[float, Meta(ge=0, le=1)]
    rows_per_second: float | None
    eta_seconds: float | None
    attempts: int
    warnings: list[str]
    error_summary: Annotated[list[ErrorSummary], Meta(description="Each code at each field: how often, and in which rows first.")]
    errors: Annotated[list[dict[str, Any]], Meta(description="The first 100 problems; in lists of jobs always empty.")]
    errors_url: Annotated[str, Meta(description="Every problem, streamed.")]
    download_url: Annotated[str | None, Meta(description="A signed link to the error report as one file, or null. It expires: ask anew.")]
    error: Annotated[JobFailure | None, Meta(description="Why a FAILED job failed.")]
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    request_id: str | None
    links: JobLinks


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, the newest first."""

    items: list[JobView]
    next: Annotated[str | None, Meta(description="The cursor of the next page; null on the last.")]


_SAME = tuple(name for name in JobView.__struct_fields__ if name in Job.__struct_fields__)


def links_of(job: Job, base: str) -> JobLinks:
    address = f"{base}/v1/imports/{job.job_id}"
    return JobLinks(
        self=address,
        errors=f"{address}/errors",
        rejected=f"{address}/rejected",
        events=f"{base}/v1/jobs/{job.job_id}/events",
        cancel=f"{address}/cancel",
        retry=f"{address}/retry",
    )


def created_view(job: Job, base: str) -> JobCreated:
    """`base` is what stands before the path: see `services.base_url`."""
    return JobCreated(
        job_id=job.job_id, type=job.type, resource=job.resource, status=job.status, created_at=job.created_at, links=links_of(job, base)
    )


def job_view(application: Application, job: Job, base: str) -> JobView:
    """The whole job. Signs a link, which may open the storage: not for the event loop. Raises StorageUnavailableError."""
    links = links_of(job, base)
    return JobView(
        **{name: getattr(job, name) for name in _SAME},
        errors_url=links.errors,
        download_url=_download_url(application, job, base),
        links=links,
    )


def list_view(application: Application, jobs: list[Job], cursor: str | None, base: str) -> JobList:
    return JobList(items=[job_view(application, job, base) for job in jobs], next=encoded_cursor(cursor))


def _download_url(application: Application, job: Job, base: str) -> str | None:
    if job.report is None:
        return None
    expires = timedelta(seconds=application.settings.link_seconds)
    link = application.storage.sign(Method.GET, Key(job.report.key), expires, filename=f"{job.job_id}-errors.ndjson")
    return base + link.url if link.url.startswith("/") else link.url
