"""Examples in the document, by the name of their schema."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from penstock.api.dead_letters import DeadLetterCode, DeadLetterList
from penstock.api.product_events import EventAnswer, EventBatchAnswer, EventFault, EventResult, EventStatus
from penstock.api.views import ExportCreated, ExportLinks, ExportView, ImportCreated, ImportLinks, ImportList, ImportView, JobList
from penstock.events.dead_letters import DeadLetter
from penstock.events.model import DeadLetterId
from penstock.jobs.model import ErrorSummary, JobStatus, Mode

_encoded = msgspec.json.Encoder(decimal_format="number").encode
_ID = "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"
_BASE = f"https://penstock.example.com/v1/imports/{_ID}"
_BEGAN, _ENDED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC), datetime(2026, 3, 2, 9, 30, 4, tzinfo=UTC)
_LINKS = ImportLinks(
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
_IMPORT = ImportView(
    job_id=_ID,
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
_CREATED = ImportCreated(job_id=_ID, resource="users", status=JobStatus.PENDING, created_at=_BEGAN, links=_LINKS)
_EXPORT_LINKS = ExportLinks(
    self=_BASE.replace("imports", "exports"),
    events=_LINKS.events,
    download=_BASE.replace("imports", "exports") + "/download",
    cancel=_BASE.replace("imports", "exports") + "/cancel",
    retry=_BASE.replace("imports", "exports") + "/retry",
)
_EXPORT = ExportView(
    job_id=_ID,
    resource="users",
    status=JobStatus.COMPLETED,
    format="csv",
    fields=["id", "email", "created_at"],
    filters={"role": "admin", "created_at[gte]": "2026-01-01T00:00:00Z"},
    compression="gzip",
    spreadsheet=False,
    total_rows=1_000,
    processed_rows=1_000,
    progress=1.0,
    rows_per_second=250_000.0,
    eta_seconds=None,
    attempts=1,
    file_name="users.csv.gz",
    size_bytes=40_000,
    sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    download_url="https://penstock.example.com/v1/storage/exports/...",
    expires_at=datetime(2026, 3, 9, 9, 30, 4, tzinfo=UTC),
    error=None,
    created_at=_BEGAN,
    started_at=_BEGAN,
    updated_at=_ENDED,
    finished_at=_ENDED,
    request_id="0f6a2c5e8b9d4c1fa3e7d2b4c6a8e0f1",
    links=_EXPORT_LINKS,
)
_ORDERED = ExportCreated(job_id=_ID, resource="users", status=JobStatus.PENDING, created_at=_BEGAN, links=_EXPORT_LINKS)
_NEXT = "MjAyNi0wMy0wMlQwOTozMDowMCswMDowMA"
_LETTER = DeadLetter(
    dead_letter_id=DeadLetterId(UUID(_ID)),
    product_id="abc123",
    price=Decimal("49.99"),
    stock=100,
    occurred_at=_BEGAN,
    event_id="order-4711",
    accepted_at=_BEGAN,
    raw=None,
    code=DeadLetterCode.REFUSED_BY_DATABASE.value,
    reason="PostgreSQL refused it (CheckViolation, SQLSTATE 23514, constraint products_are_dear).",
    attempts=0,
    died_at=_ENDED,
)
_BATCH = EventBatchAnswer(
    accepted=1,
    duplicates=0,
    rejected=1,
    not_stored=0,
    results=[
        EventResult(index=0, line=1, status=EventStatus.ACCEPTED, event_id="order-4711"),
        EventResult(
            index=1,
            line=2,
            status=EventStatus.REJECTED,
            event_id=None,
            error=EventFault(
                code="invalid_event",
                message="stock must be a whole number from 0 to 2147483647.",
                details={"field": "stock", "problem": "out_of_range", "allowed": "a whole number from 0 to 2147483647"},
            ),
        ),
    ],
)
EXAMPLES: dict[str, Any] = msgspec.json.decode(
    _encoded(
        {
            "ImportView": _IMPORT,
            "ImportCreated": _CREATED,
            "ImportList": ImportList(items=[_IMPORT], next=_NEXT),
            "ExportView": _EXPORT,
            "ExportCreated": _ORDERED,
            "JobList": JobList(items=[_EXPORT, _IMPORT], next=_NEXT),
            "EventAnswer": EventAnswer(status="accepted", event_id="order-4711"),
            "EventBatchAnswer": _BATCH,
            "DeadLetter": _LETTER,
            "DeadLetterList": DeadLetterList(items=[_LETTER], next=_NEXT),
        }
    )
)
