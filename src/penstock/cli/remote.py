"""Imports, exports and dead letters on a server: files are sent there, its workers carry the jobs, this command watches."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from penstock.cli.choices import STANDARD_INPUT
from penstock.cli.progress import Sent, View, progress_of
from penstock.cli.service import Desk, ExportRequest
from penstock.cli.spool import is_pipe
from penstock.client import DeadLetter, Server
from penstock.client.server import STREAM_NAME
from penstock.errors import CancelledError, DeadLetterNotFoundError, InvalidStateError, JobNotFoundError, PenstockError
from penstock.exports.compressing import compressed
from penstock.exports.wishes import check_compression, filter_parts
from penstock.formats.model import Compression, ReadOptions
from penstock.imports.service import Progress
from penstock.jobs.model import ImportOptions, Job, JobId, JobType

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_PAGE, _MOST_PAGES = 200, 5


class RemoteImports:
    """The ImportService of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def start(self, resource: str, file: str, *, read: ReadOptions, options: ImportOptions, resume: bool | None, desk: Desk) -> Job:  # noqa: ARG002 - a server goes on by itself
        """Ctrl-C while the file is sent: the server keeps nothing of it. Standard input and pipes go as they come, and once only."""
        self._server.resource(resource)  # a wrong name is told before anything is sent
        if file == STANDARD_INPUT and sys.stdin.isatty():
            desk.note("Reading from the keyboard; Ctrl-D on an empty line ends it.")
        source = sys.stdin.buffer if file == STANDARD_INPUT else Path(file)
        name = STREAM_NAME if file == STANDARD_INPUT or is_pipe(file) else Path(file).name

        def send(view: View, cancel: threading.Event) -> Job:
            def sent(done: int, total: int | None) -> None:
                view(Sent(done, total or 0))

            return self._server.import_file(resource, source, name=name, read=read, options=options, sent=sent, cancel=cancel)

        return desk.sending(file if name != STREAM_NAME else name, send)

    def run(
        self,
        job_id: JobId,
        *,
        progress: Callable[[Progress], None],
        cancel: threading.Event,  # noqa: ARG002 - `stop` asks the server
        waiting: Callable[[float], None],  # noqa: ARG002 - the server's workers wait for each other
    ) -> Job:
        for job in self._server.events(job_id):
            progress(progress_of(job))
            if job.status.finished:
                return job
        raise AssertionError("the events end with the job")

    def stop(self, job_id: JobId) -> str:
        try:
            self._server.cancel(job_id)
        except InvalidStateError:
            return "It ends just now."
        except PenstockError as error:
            return f"The server could not be asked to stop: {error.message} Ctrl-C again leaves the job running there."
        return "The server stops after the records under way. Ctrl-C again leaves it to that."

    def finished(self, job: Job) -> None:
        """Nothing of it is here."""

    def follow(self, job: Job) -> Iterator[Job]:
        return self._server.events(job.job_id)

    def get(self, job_id: JobId) -> Job:
        """The beginning of an id is looked for among the newest thousand jobs."""
        return self._server.get(job_id if _UUID.fullmatch(job_id) else self._whole(job_id))

    def _whole(self, given: str) -> JobId:
        start = given.lower()
        found = [job.job_id for job in self._newest() if job.job_id.startswith(start)] if re.fullmatch(r"[0-9a-f-]+", start) else []
        if not found:
            raise JobNotFoundError(f"There is no job {given} among the newest {_PAGE * _MOST_PAGES:,}: give the whole id.", job_id=given)
        if len(found) > 1:
            raise JobNotFoundError(f"Several jobs begin with {given}: give more of the id.", job_id=given)
        return found[0]

    def _newest(self) -> Iterator[Job]:
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page, cursor = self._server.list(limit=_PAGE, cursor=cursor)
            yield from page
            if cursor is None:
                return

    def list(
        self,
        *,
        type: JobType | None = None,  # noqa: A002 - what everybody calls it
        status: str | None = None,
        resource: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None]:
        return self._server.list(type=type, status=status, resource=resource, limit=limit, cursor=cursor)

    def reopen(self, job_id: JobId) -> Job:
        return self._server.retry(job_id)

    def cancel(self, job: Job) -> Job:
        return self._server.cancel_export(job.job_id) if job.type is JobType.EXPORT else self._server.cancel(job.job_id)

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        return self._server.errors(job_id)

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        written = self._server.get(job_id).failed_rows
        out.writelines(self._server.rejected(job_id))
        return written


class RemoteExports:
    """The ExportService of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def stream(self, request: ExportRequest, *, counted: bool) -> "_RemoteStream":  # noqa: ARG002 - a stream from a server tells no number
        """Compressed here, since what a server streams it compresses for the way only."""
        check_compression(request.format, request.compression)
        asked = self._server.export(
            request.resource,
            format=request.format,
            fields=request.fields,
            filters=[filter_parts(given) for given in request.filters],
            spreadsheet=request.spreadsheet,
        )
        return _RemoteStream(asked, request.compression)


class _RemoteStream:
    rows: int | None = None
    total_rows: int | None = None

    def __init__(self, asked: AbstractContextManager[Iterator[bytes]], compression: Compression) -> None:
        self._asked = asked
        self._compression = compression
        self._cancelled = threading.Event()
        self._answer: Iterator[bytes] = iter(())

    def __enter__(self) -> Self:
        self._answer = self._asked.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._asked.__exit__(kind, error, trace)

    def pieces(self) -> Iterator[bytes]:
        return compressed(self._until_cancelled(), self._compression)

    def _until_cancelled(self) -> Iterator[bytes]:
        for piece in self._answer:
            if self._cancelled.is_set():
                raise CancelledError("The export was cancelled.")
            yield piece

    def cancel(self) -> None:
        self._cancelled.set()


class RemoteLetters:
    """The LetterService of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def newest(self, limit: int, *, product_id: str | None, code: str | None) -> list[DeadLetter]:
        return list(islice(self._server.dead_letters(product_id=product_id, code=code), limit))

    def replay(self, letter_id: str) -> None:
        self._server.replay(_whole_id(letter_id))

    def replay_all(self, *, product_id: str | None, code: str | None) -> int:
        return self._server.replay_all(product_id=product_id, code=code)

    def discard(self, letter_id: str) -> None:
        self._server.discard(_whole_id(letter_id))


def _whole_id(given: str) -> str:
    if not _UUID.fullmatch(given):
        raise DeadLetterNotFoundError(f"There is no dead letter {given}.", dead_letter_id=given)
    return given.lower()
