"""What the commands ask of imports, wherever they are: `local` has them in this process, `remote` on a server."""

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from penstock.cli.progress import View
from penstock.jobs.model import ImportOptions, Job, JobId

if TYPE_CHECKING:  # these import Polars
    from penstock.formats.model import ReadOptions
    from penstock.imports.service import Progress

T = TypeVar("T")


class Desk(Protocol):
    """What a service may ask of the command that calls it."""

    def note(self, text: str) -> None:
        """Tell the person, if anybody wants to be told."""

    def sending(self, name: str, work: "Callable[[View, threading.Event], T]") -> T:
        """Do the work while its progress is shown under `name`; the event is set by Ctrl-C."""


class ImportService(Protocol):
    """Every method may raise the errors of `penstock.errors`."""

    def start(self, resource: str, file: str, *, read: "ReadOptions", options: ImportOptions, resume: bool | None, desk: Desk) -> Job:
        """A job for the file (`-`: standard input), not yet ended.

        `resume`: None goes on with an unfinished job of the same file if there is one, True insists on one, False starts afresh.
        """

    def run(
        self,
        job_id: JobId,
        *,
        progress: "Callable[[Progress], None]",
        cancel: threading.Event,
        waiting: Callable[[float], None],
    ) -> Job:
        """Carry or watch the job to its end; the finished job."""

    def stop(self, job_id: JobId) -> str:
        """See to it that a job that `run` has under way stops after the records under way; what to tell the person. Never raises ours."""

    def finished(self, job: Job) -> None:
        """Put away what only an unfinished job needs."""

    def follow(self, job: Job) -> Iterator[Job]:
        """The job again and again, with an end when it has ended, without carrying it."""

    def get(self, job_id: JobId) -> Job:
        """`job_id` may be the first characters of an id, if no other begins so."""

    def list(
        self, *, status: str | None = None, resource: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Newest first, and the cursor of the next page; `limit` is at most 200."""

    def reopen(self, job_id: JobId) -> Job: ...

    def cancel(self, job_id: JobId) -> Job: ...

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]: ...

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        """How many records."""
