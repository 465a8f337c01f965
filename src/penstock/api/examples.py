"""Examples in the document, by the name of their schema."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.api.views import JobCreated, JobLinks, JobList, JobView
from penstock.jobs.model import ErrorSummary, JobStatus, JobType, Mode

_ID = "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"
_BASE = f"https://penstock.example.com/v1/imports/{_ID}"
_BEGAN, _ENDED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC), datetime(2026, 3, 2, 9, 30, 4, tzinfo=UTC)
_LINKS = JobLinks(
    self=_BASE,
    errors=f"{_BASE}/errors",
    rejected=f"{_BASE}/rejected",
    events=f"https://penstock.example.com/v1/jobs/{_ID}/events",
    cancel=f"{_BASE}/cancel",
    retry=f"{_BASE}/retry",
)
ERROR_RECORD = {
    "row": 42,
    "line": 43,
    "type": "VALIDATION_ERROR",
    "code": "invalid_email_format",
    "field": "email",
    "value": "foo@bar",
    "message": "email must be a valid e-mail address",
    "record": {"email": "foo@bar", "name": "Foo"},
}
_JOB = JobView(
    job_id=_ID,
    type=JobType.IMPORT,
    resource="users",
    status=JobStatus.COMPLETED,
    mode=Mode.UPSERT,
    format="csv",
    dry_run=False,
    source_name="users.csv",
    total_rows=1_000_000,
    processed_rows=1_000_000,
    imported_rows=999_000,
    updated_rows=999,
    unchanged_rows=900,
    failed_rows=1,
    total_bytes=124_000_000,
    processed_bytes=124_000_000,
    progress=1.0,
    rows_per_second=250_000.0,
    eta_seconds=None,
    attempts=1,
    warnings=[],
    error_summary=[
        ErrorSummary(
            type="VALIDATION_ERROR",
            code="invalid_email_format",
            field="email",
            count=1,
            first_rows=[42],
            message=str(ERROR_RECORD["message"]),
        )
    ],
    errors=[ERROR_RECORD],
    errors_url=_LINKS.errors,
    download_url=None,
    error=None,
    created_at=_BEGAN,
    started_at=_BEGAN,
    updated_at=_ENDED,
    finished_at=_ENDED,
    request_id="0f6a2c5e8b9d4c1fa3e7d2b4c6a8e0f1",
    links=_LINKS,
)
_CREATED = JobCreated(job_id=_ID, type=JobType.IMPORT, resource="users", status=JobStatus.PENDING, created_at=_BEGAN, links=_LINKS)
_LIST = JobList(items=[_JOB], next="MjAyNi0wMy0wMlQwOTozMDowMCswMDowMA")
EXAMPLES: dict[str, Any] = msgspec.json.decode(
    msgspec.json.encode(
        {"JobView": _JOB, "JobCreated": _CREATED, "JobList": JobList(items=[_JOB], next="MjAyNi0wMy0wMlQwOTozMDowMCswMDowMA")}
    )
)
