"""What the commands ask of imports, exports and dead letters, wherever they are: `local` has them in this process, `remote` on a server."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self, TypeVar

from penstock.cli.progress import View
from penstock.jobs.model import ImportOptions, Job, JobId, JobType

if TYPE_CHECKING:  # these import Polars
    from penstock.formats.model import Compression, Format, ReadOptions
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
        self,
        *,
        type: JobType | None = None,  # noqa: A002 - what everybody calls it
        status: str | None = None,
        resource: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None]:
        """Newest first, and the cursor of the next page; `limit` is at most 200."""

    def reopen(self, job_id: JobId) -> Job: ...

    def cancel(self, job: Job) -> Job:
        """An import or an export."""

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]: ...

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        """How many records."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """`fields`: None is all of them; `filters`: each such as `role=admin` or `created_at[gte]=2024-01-31T00:00:00Z`."""

    resource: str
    format: "Format"
    compression: "Compression"
    fields: tuple[str, ...] | None = None
    filters: tuple[str, ...] = ()
    spreadsheet: bool = False


class ExportStream(Protocol):
    """One export. One thread enters it, which begins it, takes its pieces and leaves it.

    `rows` counts the records whose bytes have come; None where nobody knows, as for `total_rows`.
    """

    @property
    def rows(self) -> int | None: ...

    @property
    def total_rows(self) -> int | None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def pieces(self) -> Iterator[bytes]: ...

    def cancel(self) -> None:
        """What it does, or does next, is a CancelledError, as soon as that can be. May be called by any thread, also before it begins."""


class ExportService(Protocol):
    """Every method may raise the errors of `penstock.errors`."""

    def stream(self, request: ExportRequest, *, counted: bool) -> ExportStream:
        """Not begun. `counted`: count the records first, where that can be done."""


class Letter(Protocol):
    """A dead letter: an event that could not be applied, or what the log held that is none (`raw`, as text)."""

    @property
    def dead_letter_id(self) -> object: ...

    @property
    def product_id(self) -> str | None: ...

    @property
    def price(self) -> Decimal | None: ...

    @property
    def stock(self) -> int | None: ...

    @property
    def raw(self) -> str | None: ...

    @property
    def code(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def attempts(self) -> int: ...

    @property
    def died_at(self) -> datetime: ...


class LetterService(Protocol):
    """Every method may raise the errors of `penstock.errors`."""

    def newest(self, limit: int, *, product_id: str | None, code: str | None) -> Sequence[Letter]:
        """At most `limit`, the newest first."""

    def replay(self, letter_id: str) -> None: ...

    def replay_all(self, *, product_id: str | None, code: str | None) -> int:
        """How many."""

    def discard(self, letter_id: str) -> None: ...
