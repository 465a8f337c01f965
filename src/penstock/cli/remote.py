"""Imports on a server: files are sent there, its workers carry the jobs, this command watches."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from penstock.cli.choices import STANDARD_INPUT
from penstock.cli.progress import Sent, View, progress_of
from penstock.cli.service import Desk
from penstock.cli.spool import is_pipe
from penstock.client import Server
from penstock.client.server import STREAM_NAME
from penstock.errors import InvalidStateError, JobNotFoundError, PenstockError
from penstock.formats.model import ReadOptions
from penstock.imports.service import Progress
from penstock.jobs.model import ImportOptions, Job, JobId

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
        self, *, status: str | None = None, resource: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Job], str | None]:
        return self._server.list(status=status, resource=resource, limit=limit, cursor=cursor)

    def reopen(self, job_id: JobId) -> Job:
        return self._server.retry(job_id)

    def cancel(self, job_id: JobId) -> Job:
        return self._server.cancel(job_id)

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        return self._server.errors(job_id)

    def write_rejected(self, job_id: JobId, out: BinaryIO) -> int:
        written = self._server.get(job_id).failed_rows
        out.writelines(self._server.rejected(job_id))
        return written
