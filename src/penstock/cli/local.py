"""Imports, exports and dead letters in this process, on the database that the settings name."""

import asyncio
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from penstock.cli.choices import STANDARD_INPUT
from penstock.cli.service import Desk, ExportRequest
from penstock.cli.spool import forget, is_pipe, spool
from penstock.cli.terminal import clean
from penstock.errors import DeadLetterNotFoundError, JobNotFoundError
from penstock.events.model import DeadLetterId
from penstock.formats.model import ReadOptions
from penstock.imports.service import Progress
from penstock.jobs.model import ImportOptions, Job, JobId, JobType

if TYPE_CHECKING:  # only their types are needed: a session may bring another application, and imports need no exports
    from penstock.bootstrap import Application
    from penstock.events.dead_letters import DeadLetter, DeadLetters
    from penstock.exports.model import ExportWishes
    from penstock.exports.producing import Export
    from penstock.resources.registry import Registry

LOOK_SECONDS = 0.5
_PAGE = 200
T = TypeVar("T")


class LocalImports:
    """The ImportService of `application`. What can be read once only is spooled, since an import reads its source twice."""

    def __init__(self, application: "Application") -> None:
        self._application = application
        self._imports = application.imports
        self._registry = application.registry
        self._data_dir = application.settings.penstock_data_dir

    def start(self, resource: str, file: str, *, read: ReadOptions, options: ImportOptions, resume: bool | None, desk: Desk) -> Job:
        self._registry.get(resource)  # a wrong name is told before standard input is read
        spooled = self._spooled(file, desk)
        path = str(spooled or Path(file).absolute())
        try:
            job = None if resume is False else self._imports.unfinished(resource, path, read=read, options=options)
            if job is None:
                _check_new(resource, file, resume=resume)
                return self._imports.create(resource, path, read=read, options=options)
        except BaseException:
            _remove(spooled)
            raise
        _remove(spooled)  # the unfinished job has the same bytes in a spooled file of its own
        desk.note(
            f"{clean(file)}: going on with job {job.job_id}, which had come to row {job.processed_rows:,} (--new would start afresh)."
        )
        return job

    def _spooled(self, file: str, desk: Desk) -> Path | None:
        if file == STANDARD_INPUT:
            if sys.stdin.isatty():
                desk.note("Reading from the keyboard; Ctrl-D on an empty line ends it.")
            return spool(sys.stdin.buffer, self._data_dir)
        if is_pipe(file):
            with Path(file).open("rb") as stream:
                return spool(stream, self._data_dir)
        return None

    def run(self, job_id: JobId, *, progress: Callable[[Progress], None], cancel: threading.Event, waiting: Callable[[float], None]) -> Job:
        return self._imports.run(job_id, progress=progress, cancel=cancel, waiting=waiting)

    def stop(self, job_id: JobId) -> str:  # noqa: ARG002 - `run` looks at its cancel event
        return "Stopping after the records under way. Ctrl-C again ends at once."

    def finished(self, job: Job) -> None:
        forget(job.source_name, self._data_dir)

    def follow(self, job: Job) -> Iterator[Job]:
        while True:
            yield job
            if job.status.finished:
                return
            time.sleep(LOOK_SECONDS)
            job = self._imports.get(job.job_id)

    def get(self, job_id: JobId) -> Job:
        return self._imports.get(job_id)

    def list(
        self,
        *,
        type: JobType | None = None,  # noqa: A002 - what everybody calls it
        status: str | None = None,
        resource: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None]:
        return self._imports.list(type=type, status=status, resource=resource, limit=limit, cursor=cursor)

    def reopen(self, job_id: JobId) -> Job:
        return self._imports.reopen(job_id)

    def cancel(self, job: Job) -> Job:
        return self._application.exports.cancel(job.job_id) if job.type is JobType.EXPORT else self._imports.cancel(job.job_id)

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        return self._imports.errors(job_id)

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        return self._imports.write_rejected(job_id, out)


class LocalExports:
    """The ExportService of `application`."""

    def __init__(self, application: "Application") -> None:
        self._application = application

    def stream(self, request: ExportRequest, *, counted: bool) -> "Export":
        return self._application.exports.export(wishes_of_request(self._application.registry, request), counted=counted)


class LocalLetters:
    """The LetterService of `application`; its event log is closed after each call, so that only one can be made."""

    def __init__(self, application: "Application") -> None:
        self._application = application

    def newest(self, limit: int, *, product_id: str | None, code: str | None) -> "list[DeadLetter]":
        async def look(letters: "DeadLetters") -> "list[DeadLetter]":
            found: list[DeadLetter] = []
            cursor: str | None = None
            while len(found) < limit:
                page, cursor = letters.page(limit=min(_PAGE, limit - len(found)), cursor=cursor, product_id=product_id, code=code)
                found += page
                if cursor is None:
                    break
            return found

        return self._done(look)

    def replay(self, letter_id: str) -> None:
        self._done(lambda letters: letters.replay(_whole_id(letter_id)))

    def replay_all(self, *, product_id: str | None, code: str | None) -> int:
        return self._done(lambda letters: letters.replay_all(product_id=product_id, code=code))

    def discard(self, letter_id: str) -> None:
        async def forget(letters: "DeadLetters") -> None:
            letters.discard(_whole_id(letter_id))

        self._done(forget)

    def _done(self, work: "Callable[[DeadLetters], Coroutine[Any, Any, T]]") -> T:
        events = self._application.events

        async def whole() -> T:
            try:
                return await work(events.dead_letters)
            finally:
                await events.close()

        return asyncio.run(whole())


def _whole_id(given: str) -> DeadLetterId:
    try:
        return DeadLetterId(uuid.UUID(given))
    except ValueError:
        raise DeadLetterNotFoundError(f"There is no dead letter {given}.", dead_letter_id=given) from None


def wishes_of_request(registry: "Registry", request: ExportRequest) -> "ExportWishes":
    """The request, checked. Raises InvalidOptionError, InvalidFilterError, UnknownResourceError."""
    from penstock.exports.wishes import wishes_of  # noqa: PLC0415 - not needed for imports

    return wishes_of(
        registry,
        request.resource,
        format=request.format,
        fields=request.fields,
        filters=request.filters,
        compression=request.compression,
        spreadsheet=request.spreadsheet,
    )


def _remove(spooled: Path | None) -> None:
    if spooled is not None:
        spooled.unlink(missing_ok=True)


def _check_new(resource: str, file: str, *, resume: bool | None) -> None:
    if resume:
        raise JobNotFoundError(f"{file}: there is no unfinished import of this file into {resource} with these options to go on with")
