"""From a row of the ledger to the job that everybody sees."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.errors import JobNotFoundError
from penstock.jobs.model import ErrorSummary, ExportedFile, ExportOrder, Job, JobFailure, JobId, JobStatus, JobType, Report

_UUID_DIGITS = 32


def job_of(row: Mapping[str, Any], errors: list[dict[str, Any]]) -> Job:
    """The job as of now: progress, speed and the time that is left are worked out from what the ledger holds."""
    status, kind = JobStatus(row["status"]), JobType(row["type"])
    progress = _progress(row, status, kind)
    elapsed = _elapsed(row)
    speed = row["processed_rows"] / elapsed if elapsed else None
    running = status is JobStatus.PROCESSING and elapsed and progress
    return Job(
        job_id=JobId(str(row["job_id"])),
        type=kind,
        resource=row["resource"],
        status=status,
        source_name=row["source"]["name"],
        progress=progress,
        rows_per_second=speed,
        eta_seconds=elapsed * (1 - progress) / progress if running and elapsed else None,
        error_summary=[msgspec.convert(line, ErrorSummary) for line in row["error_summary"]],
        errors=errors,
        error=None if row["failure"] is None else msgspec.convert(row["failure"], JobFailure),
        report=None if row["report"] is None else msgspec.convert(row["report"], Report),
        **(_of_import(row) if kind is JobType.IMPORT else _of_export(row)),
        **{name: row[name] for name in _SAME},
    )


def _of_import(row: Mapping[str, Any]) -> dict[str, Any]:
    form = row["dialect"]["format"] if row["dialect"] else row["reading"].get("format")
    return {"mode": row["options"]["mode"], "format": form, "dry_run": row["options"]["dry_run"]}


def _of_export(row: Mapping[str, Any]) -> dict[str, Any]:
    asked = row["options"]
    order = ExportOrder(
        fields=asked["fields"],
        filters=dict(_filter(condition) for condition in asked["conditions"]),
        compression=asked["compression"],
        spreadsheet=asked["spreadsheet"],
    )
    file = None if row["result"] is None else msgspec.convert(row["result"], ExportedFile)
    return {"mode": None, "format": asked["format"], "dry_run": False, "export": order, "file": file}


def _filter(condition: Mapping[str, Any]) -> tuple[str, str]:
    operator, values = condition["operator"], condition["values"]
    if operator == "eq":
        return condition["name"], values[0]
    return f"{condition['name']}[{operator}]", ",".join(map(_listed, values)) if operator == "in" else values[0]


def _listed(value: str) -> str:
    """As it stands in a comma list."""
    return '"' + value.replace('"', '""') + '"' if not value or any(sign in value for sign in ',"\r\n') else value


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


def _progress(row: Mapping[str, Any], status: JobStatus, kind: JobType) -> float:
    if status is JobStatus.COMPLETED:
        return 1.0
    done, whole = ("processed_bytes", "total_bytes") if kind is JobType.IMPORT else ("processed_rows", "total_rows")
    return min(1.0, row[done] / row[whole]) if row[whole] else 0.0


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
