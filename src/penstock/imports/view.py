"""From a row of the ledger to the job that everybody sees."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.errors import JobNotFoundError
from penstock.jobs.model import ErrorSummary, Job, JobFailure, JobId, JobStatus, JobType, Report

_UUID_DIGITS = 32


def job_of(row: Mapping[str, Any], errors: list[dict[str, Any]]) -> Job:
    """The job as of now: progress, speed and the time that is left are worked out from what the ledger holds."""
    status = JobStatus(row["status"])
    progress = _progress(row, status)
    elapsed = _elapsed(row)
    speed = row["processed_rows"] / elapsed if elapsed else None
    running = status is JobStatus.PROCESSING and elapsed and progress
    return Job(
        job_id=JobId(str(row["job_id"])),
        type=JobType(row["type"]),
        resource=row["resource"],
        status=status,
        mode=row["options"]["mode"],
        format=row["dialect"]["format"] if row["dialect"] else row["reading"].get("format"),
        dry_run=row["options"]["dry_run"],
        source_name=row["source"]["name"],
        progress=progress,
        rows_per_second=speed,
        eta_seconds=elapsed * (1 - progress) / progress if running and elapsed else None,
        error_summary=[msgspec.convert(line, ErrorSummary) for line in row["error_summary"]],
        errors=errors,
        error=None if row["failure"] is None else msgspec.convert(row["failure"], JobFailure),
        report=None if row["report"] is None else msgspec.convert(row["report"], Report),
        **{name: row[name] for name in _SAME},
    )


_SAME = (
    "total_rows",
    "processed_rows",
    "imported_rows",
    "updated_rows",
    "unchanged_rows",
    "failed_rows",
    "total_bytes",
    "processed_bytes",
    "attempts",
    "warnings",
    "created_at",
    "started_at",
    "updated_at",
    "finished_at",
    "request_id",
    "queued",
)


def _progress(row: Mapping[str, Any], status: JobStatus) -> float:
    if status is JobStatus.COMPLETED:
        return 1.0
    return min(1.0, row["processed_bytes"] / row["total_bytes"]) if row["total_bytes"] else 0.0


def _elapsed(row: Mapping[str, Any]) -> float | None:
    if row["started_at"] is None:
        return None
    return float(((row["finished_at"] or datetime.now(UTC)) - row["started_at"]).total_seconds()) or None


def id_range(given: str) -> dict[str, str]:
    """Lowest and highest UUID that begin with the given characters. Raises JobNotFoundError for what begins no UUID."""
    digits = given.replace("-", "").lower()
    try:
        low, high = (uuid.UUID(digits.ljust(_UUID_DIGITS, fill)) for fill in "0f")
    except ValueError:
        raise JobNotFoundError(f"There is no job {given}: a job's id is a UUID, or its first characters.", job_id=given) from None
    return {"low": str(low), "high": str(high)}
