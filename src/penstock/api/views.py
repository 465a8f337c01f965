"""How jobs are shown: the fields of an import and of an export, and where everything about them is."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from penstock.api.parameters import encoded_cursor
from penstock.bootstrap import Application
from penstock.errors import ExportExpiredError, InvalidStateError
from penstock.jobs.model import ErrorSummary, Job, JobFailure, JobStatus, JobType, Mode
from penstock.storage.model import Key, Method, SignedLink

Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Next = Annotated[str | None, Meta(description="The cursor of the next page; null on the last.")]


class ImportLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything about the import is, as absolute addresses."""

    self: str
    errors: str
    rejected: str
    events: str
    cancel: str
    retry: str


class ExportLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything about the export is, as absolute addresses."""

    self: str
    events: str
    download: str
    cancel: str
    retry: str


class ImportCreated(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=JobType.IMPORT.value):
    """An import that waits for a worker."""

    job_id: Id
    resource: str
    status: JobStatus
    created_at: datetime
    links: ImportLinks


class ExportCreated(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=JobType.EXPORT.value):
    """An export that waits for a worker."""

    job_id: Id
    resource: str
    status: JobStatus
    created_at: datetime
    links: ExportLinks


class ImportView(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=JobType.IMPORT.value):
    """An import. Counters count records. Once finished: processed_rows = total_rows = imported_rows + updated_rows + failed_rows."""

    job_id: Id
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
    links: ImportLinks


class ExportView(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=JobType.EXPORT.value):
    """An export. Once COMPLETED: processed_rows = total_rows, and the file is there until `expires_at`."""

    job_id: Id
    resource: str
    status: JobStatus
    format: Annotated[str, Meta(description="csv, ndjson, json or parquet.")]
    fields: Annotated[list[str], Meta(description="In the order of the columns.")]
    filters: Annotated[dict[str, str], Meta(description="As they stand in an address: `created_at[gte]` and its value. All must hold.")]
    compression: Annotated[str, Meta(description="none, gzip or zstd.")]
    spreadsheet: bool
    total_rows: Annotated[int | None, Meta(description="Null until the records were counted.")]
    processed_rows: int
    progress: Annotated[float, Meta(ge=0, le=1)]
    rows_per_second: float | None
    eta_seconds: float | None
    attempts: int
    file_name: Annotated[str, Meta(description="The file's name when it is fetched.")]
    size_bytes: Annotated[int | None, Meta(description="Of the file; null until it is whole.")]
    sha256: Annotated[str | None, Meta(description="Of the file, in hexadecimal; null until it is whole.")]
    download_url: Annotated[
        str | None, Meta(description="A signed link to the file, or null when there is none (any more). It expires: ask anew.")
    ]
    expires_at: Annotated[datetime | None, Meta(description="The file is removed then.")]
    error: Annotated[JobFailure | None, Meta(description="Why a FAILED job failed.")]
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    request_id: str | None
    links: ExportLinks


AnyJobView = ImportView | ExportView  # told apart by `type`


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, the newest first."""

    items: list[AnyJobView]
    next: Next


class ImportList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of imports, the newest first."""

    items: list[ImportView]
    next: Next


_OF_IMPORT, _OF_EXPORT = (
    tuple(name for name in view.__struct_fields__ if name in Job.__struct_fields__) for view in (ImportView, ExportView)
)


def address_of(job: Job, base: str) -> str:
    """`base` is what stands before the path: see `services.base_url`."""
    return f"{base}/v1/{job.type.lower()}s/{job.job_id}"


def import_links(job: Job, base: str) -> ImportLinks:
    address = address_of(job, base)
    return ImportLinks(
        self=address,
        errors=f"{address}/errors",
        rejected=f"{address}/rejected",
        events=f"{base}/v1/jobs/{job.job_id}/events",
        cancel=f"{address}/cancel",
        retry=f"{address}/retry",
    )


def export_links(job: Job, base: str) -> ExportLinks:
    address = address_of(job, base)
    return ExportLinks(
        self=address,
        events=f"{base}/v1/jobs/{job.job_id}/events",
        download=f"{address}/download",
        cancel=f"{address}/cancel",
        retry=f"{address}/retry",
    )


def import_created(job: Job, base: str) -> ImportCreated:
    return ImportCreated(
        job_id=job.job_id, resource=job.resource, status=job.status, created_at=job.created_at, links=import_links(job, base)
    )


def export_created(job: Job, base: str) -> ExportCreated:
    return ExportCreated(
        job_id=job.job_id, resource=job.resource, status=job.status, created_at=job.created_at, links=export_links(job, base)
    )


def job_view(application: Application, job: Job, base: str) -> AnyJobView:
    """The whole job. Signs a link, which may open the storage: not for the event loop. Raises StorageUnavailableError."""
    return import_view(application, job, base) if job.type is JobType.IMPORT else export_view(application, job, base)


def import_view(application: Application, job: Job, base: str) -> ImportView:
    """As `job_view`."""
    links = import_links(job, base)
    return ImportView(
        **{name: getattr(job, name) for name in _OF_IMPORT},
        errors_url=links.errors,
        download_url=_report_url(application, job, base),
        links=links,
    )


def export_view(application: Application, job: Job, base: str) -> ExportView:
    """As `job_view`."""
    order, file = job.export, job.file
    assert order is not None
    return ExportView(
        **{name: getattr(job, name) for name in _OF_EXPORT},
        **{name: getattr(order, name) for name in order.__struct_fields__},
        file_name=job.source_name,
        size_bytes=None if file is None else file.size,
        sha256=None if file is None else file.sha256,
        download_url=_file_url(application, job, base),
        expires_at=None if file is None else file.expires_at,
        links=export_links(job, base),
    )


def job_list(application: Application, jobs: list[Job], cursor: str | None, base: str) -> JobList:
    return JobList(items=[job_view(application, job, base) for job in jobs], next=encoded_cursor(cursor))


def import_list(application: Application, jobs: list[Job], cursor: str | None, base: str) -> ImportList:
    return ImportList(items=[import_view(application, job, base) for job in jobs], next=encoded_cursor(cursor))


def absolute(link: SignedLink, base: str) -> str:
    """A link to local storage leads to this server; one to a bucket is whole already."""
    return base + link.url if link.url.startswith("/") else link.url


def _file_url(application: Application, job: Job, base: str) -> str | None:
    try:
        return absolute(application.exports.link(job), base)
    except (InvalidStateError, ExportExpiredError):  # it is not there yet, or not any more
        return None


def _report_url(application: Application, job: Job, base: str) -> str | None:
    if job.report is None:
        return None
    expires = timedelta(seconds=application.settings.link_seconds)
    return absolute(application.storage.sign(Method.GET, Key(job.report.key), expires, filename=f"{job.job_id}-errors.ndjson"), base)
