"""What goes over the wire: jobs, events and health as they come, options as they are sent."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from penstock.errors import ServerRefusedError
from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, Job, JobType

T = TypeVar("T")


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is "healthy" if the server can do its work; `checks` says what it looked at."""

    status: str
    version: str = ""
    checks: dict[str, Any] = {}


class EventStatus(StrEnum):
    """What became of a product event that was sent."""

    ACCEPTED = "accepted"  # durable
    DUPLICATE = "duplicate"  # it was accepted before, by its event_id
    REJECTED = "rejected"  # it is no event; `error` says why
    NOT_STORED = "not_stored"  # the server's backlog is full


class EventError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    details: dict[str, Any] | None = None


class SentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`index` counts from 0 among the events of one call. `event_id` is the one it was sent with."""

    status: EventStatus
    index: int = 0
    event_id: str | None = None
    error: EventError | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that could not be applied, or what the log held that is none: then `raw` is that, as text, and there is no event."""

    dead_letter_id: str
    code: str
    reason: str
    attempts: int
    died_at: datetime
    product_id: str | None = None
    price: Decimal | None = None
    stock: int | None = None
    occurred_at: datetime | None = None
    event_id: str | None = None
    accepted_at: datetime | None = None
    raw: str | None = None


class DeadLetterPage(msgspec.Struct):
    items: list[DeadLetter]
    next: str | None = None


class Replayed(msgspec.Struct):
    replayed: int


class JobPage(msgspec.Struct):
    items: list[dict[str, Any]]
    next: str | None = None


# A member that another version of the server leaves out.
_ABSENT: dict[str, Any] = {
    "mode": "upsert",
    "dry_run": False,
    "processed_rows": 0,
    "imported_rows": 0,
    "updated_rows": 0,
    "unchanged_rows": 0,
    "failed_rows": 0,
    "total_bytes": 0,
    "processed_bytes": 0,
    "progress": 0.0,
    "attempts": 0,
    "warnings": [],
    "error_summary": [],
    "errors": [],
}
_ORDER: dict[str, Any] = {"fields": [], "filters": {}, "compression": "none", "spreadsheet": False}
_WITH_DEFAULT = {field.name for field in msgspec.structs.fields(Job) if not field.required}


def job_of(found: dict[str, Any]) -> Job:
    """An import or an export, as `type` says. Raises ServerRefusedError for what is no job."""
    absent = {name: _ABSENT.get(name) for name in Job.__struct_fields__ if name not in _WITH_DEFAULT}
    absent |= {"source_name": found.get("resource"), "updated_at": found.get("created_at")}
    if found.get("type") == JobType.EXPORT:
        absent |= {"mode": None, **_of_export(found)}
    try:
        return msgspec.convert(absent | found, Job)
    except msgspec.ValidationError as error:
        raise _strange(error) from error


def _of_export(found: dict[str, Any]) -> dict[str, Any]:
    """What stands in a Job's `export` and `file`. A file's key is the server's own: its name stands there."""
    order = {name: found.get(name, usual) for name, usual in _ORDER.items()}
    facts: dict[str, Any] = {"source_name": found.get("file_name") or found.get("resource"), "queued": True, "export": order}
    if found.get("sha256") is not None:
        told = {"key": "file_name", "size": "size_bytes", "sha256": "sha256", "expires_at": "expires_at"}
        facts["file"] = {ours: found.get(theirs) for ours, theirs in told.items()}
    return facts


def decoded(body: bytes, kind: type[T]) -> T:
    """Raises ServerRefusedError for what is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _strange(error) from error


def _strange(error: Exception) -> ServerRefusedError:
    return ServerRefusedError(
        f"The answer is not what a Penstock server gives ({error}). Check that the URL is that of one, and its version."
    )


def fields_of(read: ReadOptions, options: ImportOptions) -> dict[str, str]:
    """Form fields of the options that are not the default. Sizes of chunks and records are the server's own to set."""
    fields = {}
    for given, usual, names in ((options, ImportOptions(), ImportOptions.__struct_fields__), (read, ReadOptions(), _READ)):
        for name in names:
            if (value := getattr(given, name)) != getattr(usual, name):
                fields[name] = _text(value)
    return fields


_READ = ("format", "delimiter", "encoding", "null_values", "mapping")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
