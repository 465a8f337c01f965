"""A job as everybody sees it: the API, the CLI and the console show this and nothing else."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

import msgspec

JobId = NewType("JobId", str)  # a UUID in lower-case hyphenated text
Epoch = NewType("Epoch", int)  # which attempt at a job: 1 for the first; only the newest may write


class JobType(StrEnum):
    IMPORT = "IMPORT"
    EXPORT = "EXPORT"


class JobStatus(StrEnum):
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def finished(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Mode(StrEnum):
    UPSERT = "upsert"
    INSERT = "insert"
    UPDATE = "update"


class Empty(StrEnum):
    """What an absent or empty value does to the stored one."""

    KEEP = "keep"
    CLEAR = "clear"


class OnError(StrEnum):
    CONTINUE = "continue"
    ABORT = "abort"


class ImportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an import does with a record. API.md, "What an import does with a row"."""

    mode: Mode = Mode.UPSERT
    empty: Empty = Empty.KEEP
    on_error: OnError = OnError.CONTINUE
    atomic: bool = False
    dry_run: bool = False
    max_errors: int | None = None
    timezone: str | None = None  # an IANA name, for timestamps without a zone
    datetime_format: str | None = None  # a strptime format, in place of ISO 8601


class ErrorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One code at one field: how often, and where first."""

    type: str
    code: str
    field: str | None
    count: int
    first_rows: list[int]
    message: str


class JobFailure(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    details: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The error report as an object in storage: NDJSON, one line for each problem."""

    key: str
    size: int  # bytes
    sha256: str  # hexadecimal


class ExportOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What an export was asked for."""

    fields: list[str]
    filters: dict[str, str]  # as they stand in an address: `created_at[gte]` -> text
    compression: str
    spreadsheet: bool


class ExportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a completed export in storage."""

    key: str
    size: int  # bytes
    sha256: str  # hexadecimal
    expires_at: datetime  # removed then


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Counters count records. A finished import: processed_rows = total_rows = imported_rows + updated_rows + failed_rows; a completed
    export: processed_rows = total_rows.
    """

    job_id: JobId
    type: JobType
    resource: str
    status: JobStatus
    mode: Mode | None  # None: an export
    format: str | None
    dry_run: bool
    source_name: str
    total_rows: int | None  # None until the file's end was seen
    processed_rows: int
    imported_rows: int
    updated_rows: int
    unchanged_rows: int  # part of updated_rows
    failed_rows: int
    total_bytes: int
    processed_bytes: int
    progress: float  # 0..1
    rows_per_second: float | None
    eta_seconds: float | None
    attempts: int
    warnings: list[str]
    error_summary: list[ErrorSummary]
    errors: list[dict[str, Any]]  # the first 100 error records
    error: JobFailure | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    request_id: str | None
    queued: bool = False  # carried by whichever worker is free; otherwise by the process that made it
    report: Report | None = None  # once a worker has packed it
    export: ExportOrder | None = None  # None: an import
    file: ExportedFile | None = None  # of a completed export
