"""Carrying imports to their end: each file a job, in order; the first that fails as a whole ends the row."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from penstock.cli.choices import STANDARD_INPUT
from penstock.cli.failures import FAILED, INTERRUPTED, LANDED, REJECTED, print_json, report, worst
from penstock.cli.interrupts import Interrupts
from penstock.cli.progress import view_for
from penstock.cli.reports import format_of, numbered, save, write_errors
from penstock.cli.session import Session
from penstock.cli.spool import forget, is_pipe, shown, spool
from penstock.cli.summary import next_steps, print_summary
from penstock.cli.terminal import clean, plural
from penstock.cli.unfinished import unfinished_jobs
from penstock.errors import InvalidStateError, JobNotFoundError, PenstockError
from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, Job, JobStatus

if TYPE_CHECKING:  # only its type is needed: a session may bring another application
    from penstock.bootstrap import Application


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
    def __init__(self, session: Session, request: ImportRequest, application: "Application", interrupts: Interrupts) -> None:
        self._session = session
        self._request = request
        self._imports = application.imports
        self._data_dir = session.settings.penstock_data_dir
        self._interrupts = interrupts
        self._talks = not (request.quiet or session.as_json)

    def carry_files(self) -> int:
        """The exit status: the worst of the files'."""
        files = self._request.files
        status = LANDED
        for number, file in enumerate(files, 1):
            job = self.job_for(file)
            status = worst(status, status_of(self.carry(job, number, len(files))))
            if status in (FAILED, INTERRUPTED):
                self._tell_left(files[number:])
                break
        return status

    def carry_unfinished(self) -> int:
        """Go on with every job that was interrupted, the oldest first."""
        jobs = unfinished_jobs(self._imports, self._request.resource)
        if not jobs:
            self._note("Nothing to go on with: every import has ended.")
        status = LANDED
        for number, job in enumerate(jobs, 1):
            self._note(f"Going on with {clean(shown(job.source_name))} into {clean(job.resource)}, job {job.job_id}.")
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
        try:
            with view_for(self._session.err, shown(job.source_name), quiet=not self._talks) as view:
                done = self._interrupts.run(
                    lambda: self._imports.run(job.job_id, progress=view, cancel=self._interrupts.cancel, waiting=self._tell_waiting()),
                    self._tell_stopping,
                )
        except InvalidStateError:
            raise
        except PenstockError:
            self._note(f"Job {job.job_id} has not ended; what has landed stays. Go on with: penstock import --resume")
            raise
        seconds = time.monotonic() - started
        saved = list(self._save_reports(done, number, of))
        if done.status is JobStatus.COMPLETED:
            forget(done.source_name, self._data_dir)
        self._show(done, seconds, saved)
        return done

    def job_for(self, file: str) -> Job:
        assert self._request.resource is not None
        spooled = self._spooled(file)
        try:
            job, is_new = self._new_or_unfinished(self._request.resource, file, str(spooled or Path(file).absolute()))
        except BaseException:
            if spooled:
                spooled.unlink(missing_ok=True)
            raise
        if spooled and not is_new:
            spooled.unlink(missing_ok=True)  # the unfinished job has the same bytes in a spooled file of its own
        return job

    def _spooled(self, file: str) -> Path | None:
        if file == STANDARD_INPUT:
            if sys.stdin.isatty():
                self._note("Reading from the keyboard; Ctrl-D on an empty line ends it.")
            return spool(sys.stdin.buffer, self._data_dir)
        if is_pipe(file):
            with Path(file).open("rb") as stream:
                return spool(stream, self._data_dir)
        return None

    def _new_or_unfinished(self, resource: str, file: str, path: str) -> tuple[Job, bool]:
        read, options, resume = self._request.read, self._request.options, self._request.resume
        job = None if resume is False else self._imports.unfinished(resource, path, read=read, options=options)
        if job is not None:
            self._note(
                f"{clean(file)}: going on with job {job.job_id}, which had come to row {job.processed_rows:,} (--new would start afresh)."
            )
            return job, False
        if resume:
            raise JobNotFoundError(f"{file}: there is no unfinished import of this file into {resource} with these options to go on with")
        return self._imports.create(resource, path, read=read, options=options), True

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
        steps = next_steps(job, errors_saved=request.errors_to is not None, rejected_saved=request.rejected_to is not None)
        lines = [*saved, *steps]
        if lines:
            out.print()
        for line in lines:
            out.print(f"  {line}", soft_wrap=True)
        out.print()

    def _tell_left(self, files: tuple[str, ...]) -> None:
        if files:
            self._note(f"Not started: {', '.join(clean(file) for file in files)}")

    def _tell_waiting(self) -> Callable[[float], None]:
        told: list[float] = []

        def tell(seconds_left: float) -> None:
            if not told:
                told.append(seconds_left)
                self._note(f"Another process may still work on this job; waiting for {max(seconds_left, 1):.0f} s to be sure.")

        return tell

    def _tell_stopping(self) -> None:
        self._note("Stopping after the records under way. Ctrl-C again ends at once.")

    def _note(self, text: str) -> None:
        if self._talks:
            self._session.err.print(text, soft_wrap=True)
