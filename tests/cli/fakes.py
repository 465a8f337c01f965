"""An import service in memory, for what the commands show; and the application around it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

from penstock.cli.session import Session
from penstock.errors import JobNotFoundError, PenstockError
from penstock.formats.model import ReadOptions
from penstock.imports.service import Progress
from penstock.jobs.model import ErrorSummary, ImportOptions, Job, JobId, JobStatus, JobType, Mode
from penstock.resources.registry import Registry

if TYPE_CHECKING:
    from penstock.bootstrap import Application
    from penstock.settings import Settings

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOSTILE = "\x1b[31m[bold red]x[/]\r\n:smile:\u202e\ud800"
SHOWN = r"\x1b[31m[bold red]x[/]\r\n:smile:\u202e\ud800"


def make_job(number: int = 1, **changes: Any) -> Job:
    facts: dict[str, Any] = {
        "job_id": JobId(str(uuid.UUID(int=number << 96))),
        "type": JobType.IMPORT,
        "resource": "users",
        "status": JobStatus.PENDING,
        "mode": Mode.UPSERT,
        "format": "csv",
        "dry_run": False,
        "source_name": "users.csv",
        "total_rows": None,
        "processed_rows": 0,
        "imported_rows": 0,
        "updated_rows": 0,
        "unchanged_rows": 0,
        "failed_rows": 0,
        "total_bytes": 1000,
        "processed_bytes": 0,
        "progress": 0.0,
        "rows_per_second": None,
        "eta_seconds": None,
        "attempts": 0,
        "warnings": [],
        "error_summary": [],
        "errors": [],
        "error": None,
        "created_at": NOON + timedelta(minutes=number),
        "started_at": None,
        "updated_at": NOON + timedelta(minutes=number),
        "finished_at": None,
        "request_id": None,
    }
    return Job(**facts | changes)


def completed(job: Job, rejected: int = 0, **changes: Any) -> Job:
    facts: dict[str, Any] = {
        "status": JobStatus.COMPLETED,
        "total_rows": 10,
        "processed_rows": 10,
        "imported_rows": 10 - rejected,
        "failed_rows": rejected,
        "processed_bytes": job.total_bytes,
        "progress": 1.0,
        "attempts": 1,
        "started_at": NOON,
        "finished_at": NOON + timedelta(seconds=2),
    }
    return msgspec.structs.replace(job, **facts | changes)


def error_record(row: int, **changes: Any) -> dict[str, Any]:
    record = {"email": "foo@bar", "name": 'Anna "A", Berg'}
    facts = {"row": row, "line": row + 1, "type": "VALIDATION_ERROR", "code": "invalid_email_format", "field": "email", "value": "foo@bar"}
    return facts | {"message": "email must be a valid e-mail address", "record": record} | changes


EMAIL_SUMMARY = ErrorSummary(
    type="VALIDATION_ERROR",
    code="invalid_email_format",
    field="email",
    count=2,
    first_rows=[3, 7],
    message="email must be a valid e-mail address",
)


@dataclass
class FakeImports:
    """`ending` makes the finished job of a pending one; an exception in its place is raised by `run`."""

    ending: Callable[[Job], Job] | PenstockError | Exception = completed
    jobs: dict[str, Job] = field(default_factory=dict)
    error_records: list[dict[str, Any]] = field(default_factory=list)
    waits_for_cancel: bool = False
    stubborn: bool = False  # never looks at the cancel event
    same_bytes: Job | None = None
    created: list[tuple[str, str, ReadOptions, ImportOptions]] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    reports: int = 3
    lease_seconds_left: float = 0
    create_error: PenstockError | None = None

    def create(self, resource: str, path: str, *, read: ReadOptions, options: ImportOptions) -> Job:
        if self.create_error:
            raise self.create_error
        self.created.append((resource, path, read, options))
        self.contents.append(Path(path).read_bytes())
        number = len(self.jobs) + 1
        job = make_job(number, resource=resource, source_name=Path(path).name, dry_run=options.dry_run, mode=options.mode)
        self.jobs[job.job_id] = job
        return job

    def unfinished(self, resource: str, path: str, *, read: ReadOptions, options: ImportOptions) -> Job | None:  # noqa: ARG002 - the service's
        return self.same_bytes

    def reopen(self, job_id: JobId) -> Job:
        self.jobs[job_id] = msgspec.structs.replace(self.jobs[job_id], status=JobStatus.PENDING, finished_at=None, error=None)
        return self.jobs[job_id]

    def run(self, job_id: JobId, *, progress: Callable[[Progress], None], cancel: threading.Event, waiting: Callable[[float], None]) -> Job:
        job = self.jobs[job_id]
        assert not job.status.finished
        if self.lease_seconds_left:
            waiting(self.lease_seconds_left)
            waiting(self.lease_seconds_left - 1)
        self.ran.append(job_id)
        for step in range(1, self.reports + 1):
            done = step * job.total_bytes // self.reports
            progress(Progress(job_id=job_id, processed_rows=step * 3, failed_rows=1, processed_bytes=done, total_bytes=job.total_bytes))
        if self.stubborn:
            time.sleep(60)
        if self.waits_for_cancel:
            assert cancel.wait(30)
            ended = completed(job, status=JobStatus.CANCELLED)
        elif isinstance(self.ending, Exception):
            raise self.ending
        else:
            ended = self.ending(job)
        self.jobs[job_id] = ended
        return ended

    def get(self, job_id: JobId) -> Job:
        found = [job for known, job in self.jobs.items() if known.startswith(job_id)]
        if len(found) != 1:
            raise JobNotFoundError(f"there is no job {job_id}")
        return found[0]

    def list(
        self,
        *,
        type: JobType | None = None,  # noqa: A002 - the service's
        status: str | None = None,
        resource: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None]:
        found = [j for j in self.jobs.values() if status in (None, j.status.value) and resource in (None, j.resource)]
        found = [j for j in found if type in (None, j.type)]
        found.sort(key=lambda j: j.created_at, reverse=True)
        start = int(cursor or 0)
        return found[start : start + limit], str(start + limit) if len(found) > start + limit else None

    def cancel(self, job_id: JobId) -> Job:
        self.jobs[job_id] = completed(self.jobs[job_id], status=JobStatus.CANCELLED)
        return self.jobs[job_id]

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        self.get(job_id)
        yield from self.error_records

    def count(self, resource: str) -> int:
        return sum(job.imported_rows for job in self.jobs.values() if job.resource == resource)

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        self.get(job_id)
        out.write(b"_errors,email\nbad,foo@bar\n")
        return 1


@dataclass
class FakeApplication:
    imports: FakeImports
    registry: Registry
    settings: "Settings"


def session_with(imports: FakeImports) -> Session:
    """A session whose application is in memory."""

    def opened(settings: "Settings") -> "AbstractContextManager[Application]":
        application = FakeApplication(imports, Registry.load(), settings)
        return nullcontext(cast("Application", application))

    return Session(open_application=opened)
