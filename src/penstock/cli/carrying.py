"""Carrying imports to their end: each file a job, in order; the first that fails as a whole ends the row."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from penstock.cli.failures import FAILED, INTERRUPTED, LANDED, REJECTED, print_json, report, worst
from penstock.cli.interrupts import Interrupts
from penstock.cli.progress import View, view_for
from penstock.cli.reports import format_of, numbered, save, write_errors
from penstock.cli.service import ImportService
from penstock.cli.session import Session
from penstock.cli.spool import shown
from penstock.cli.summary import next_steps, print_summary
from penstock.cli.terminal import clean, plural
from penstock.cli.unfinished import unfinished_jobs
from penstock.errors import InvalidStateError, PenstockError
from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, Job, JobStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """`resume`: None goes on with an unfinished job of the same file if there is one, True insists on one, False starts afresh."""

    resource: str | None
    files: tuple[str, ...]
    read: ReadOptions
    options: ImportOptions
    resume: bool | None = None
    errors_to: Path | None = None
    rejected_to: Path | None = None
    quiet: bool = False


def status_of(job: Job) -> int:
    if job.status is JobStatus.CANCELLED:
        return INTERRUPTED
    if job.status is JobStatus.COMPLETED:
        return REJECTED if job.failed_rows else LANDED
    return FAILED


class Carrier:
    """Carries the files of one request through `imports`; their Desk, too."""

    def __init__(self, session: Session, request: ImportRequest, imports: ImportService, interrupts: Interrupts) -> None:
        self._session = session
        self._request = request
        self._imports = imports
        self._interrupts = interrupts
        self._talks = not (request.quiet or session.as_json)

    def carry_files(self) -> int:
        """The exit status: the worst of the files'."""
        files = self._request.files
        status = LANDED
        for number, file in enumerate(files, 1):
            try:
                status = worst(status, status_of(self.carry(self.job_for(file), number, len(files))))
            except PenstockError:
                self._tell_left(files[number:])
                raise
            if status in (FAILED, INTERRUPTED):
                self._tell_left(files[number:])
                break
        return status

    def carry_unfinished(self) -> int:
        """Go on with every job that was interrupted, the oldest first."""
        jobs = unfinished_jobs(self._imports, self._request.resource)
        if not jobs:
            self.note("Nothing to go on with: every import has ended.")
        status = LANDED
        for number, job in enumerate(jobs, 1):
            self.note(f"Going on with {clean(shown(job.source_name))} into {clean(job.resource)}, job {job.job_id}.")
            try:
                status = worst(status, status_of(self.carry(job, number, len(jobs))))
            except InvalidStateError as error:  # another process is at it: no reason to leave the others
                report(self._session, error.code, f"{job.job_id}: {error.message}", status=error.http_status, details=error.details)
                status = worst(status, FAILED)
            if status == INTERRUPTED:
                break
        return status

    def carry(self, job: Job, number: int = 1, of: int = 1) -> Job:
        """The finished job, after its reports are written and its summary is shown. `number` and `of` name the reports of several files."""
        started = time.monotonic()
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            job = self._imports.reopen(job.job_id)
        left = self._session.hints.left(job.job_id)
        try:
            done = self._run(job, left)
        except InvalidStateError:
            raise
        except (PenstockError, KeyboardInterrupt):
            self.note(left)
            raise
        seconds = time.monotonic() - started
        saved = list(self._save_reports(done, number, of))
        if done.status is JobStatus.COMPLETED:
            self._imports.finished(done)
        self._show(done, seconds, saved)
        return done

    def _run(self, job: Job, left: str) -> Job:
        def work() -> Job:
            return self._imports.run(job.job_id, progress=view, cancel=self._interrupts.cancel, waiting=self._tell_waiting())

        parting = self._interrupts.parting(left if self._talks and self._session.server else "")
        with view_for(self._session.err, shown(job.source_name), quiet=not self._talks) as view, parting:
            return self._interrupts.run(work, lambda: self.note(self._imports.stop(job.job_id)))

    def job_for(self, file: str) -> Job:
        request = self._request
        assert request.resource is not None
        return self._imports.start(request.resource, file, read=request.read, options=request.options, resume=request.resume, desk=self)

    def note(self, text: str) -> None:
        if self._talks:
            self._session.err.print(text, soft_wrap=True)

    def sending(self, name: str, work: Callable[[View, threading.Event], T]) -> T:
        cancel = self._interrupts.cancel
        with view_for(self._session.err, name, quiet=not self._talks) as view:
            return self._interrupts.run(lambda: work(view, cancel), lambda: self.note("Stopping the sending. Ctrl-C again ends at once."))

    def _save_reports(self, job: Job, number: int, of: int) -> Iterator[str]:
        """Also for a job that failed or was cancelled: what it had found by then."""
        if path := self._request.errors_to:
            target, form = numbered(path, number, of), format_of(path)
            written = save(target, lambda out: write_errors(self._imports.errors(job.job_id), form, out))
            yield f"{plural(written, 'problem')} written to {clean(target)}"
        if path := self._request.rejected_to:
            target = numbered(path, number, of)
            written = save(target, lambda out: self._write_rejected(job, out))
            yield f"{plural(written, 'rejected record')} written to {clean(target)}, to be mended and imported again"

    def _write_rejected(self, job: Job, out: BinaryIO) -> int:
        return self._imports.write_rejected(job.job_id, out)

    def _show(self, job: Job, seconds: float, saved: list[str]) -> None:
        if self._session.as_json:
            print_json(job)
            return
        if self._request.quiet:
            return
        out = self._session.out
        print_summary(out, job, seconds)
        request = self._request
        steps = next_steps(
            job, self._session.hints, errors_saved=request.errors_to is not None, rejected_saved=request.rejected_to is not None
        )
        lines = [*saved, *steps]
        if lines:
            out.print()
        for line in lines:
            out.print(f"  {line}", soft_wrap=True)
        out.print()

    def _tell_left(self, files: tuple[str, ...]) -> None:
        if files:
            self.note(f"Not started: {', '.join(clean(file) for file in files)}")

    def _tell_waiting(self) -> Callable[[float], None]:
        told: list[float] = []

        def tell(seconds_left: float) -> None:
            if not told:
                told.append(seconds_left)
                self.note(f"Another process may still work on this job; waiting for {max(seconds_left, 1):.0f} s to be sure.")

        return tell
