"""A server and what it can be asked."""

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import msgspec

from penstock.client.downloads import save
from penstock.client.following import SERVERS_OWN, followed
from penstock.client.lines import data_of, lines_of
from penstock.client.schemas import ResourceList, ResourceView, resource_of
from penstock.client.sending import send_all, send_one
from penstock.client.transport import Transport
from penstock.client.uploads import Sent, Upload
from penstock.client.wire import DeadLetter, DeadLetterPage, EventStatus, Health, JobPage, Replayed, SentEvent, decoded, fields_of, job_of
from penstock.errors import InvalidFilterError, PenstockError
from penstock.exports.wishes import QUERY_OPTIONS
from penstock.formats.model import Compression, Format, ReadOptions
from penstock.jobs.model import ImportOptions, Job, JobId, JobType
from penstock.resources.describing import ResourceDescription

_ANSWER_SECONDS = 300.0  # after the last byte of a file: it is made durable before the answer
_EVENT_IDLE_SECONDS = 60.0  # the server sends a sign of life more often
_EXPORT_IDLE_SECONDS = 600.0  # before the first record the database may have to look through a large table
_LETTERS_PAGE = 200
STREAM_NAME = "standard input"

_SCALARS = (str, int, float, Decimal)

Filters = Mapping[str, str] | Iterable[tuple[str, str]]


class Server:
    """One Penstock server, by its URL. Close it, or use it as a context manager. May be used by several threads.

    Every method raises what the server raised, as the same class of `penstock.errors` with `request_id` in its details; ServerRefusedError
    for what this version does not know; ServerUnreachableError where there is no answer. What does no harm twice (reading, and sending a
    file, by its idempotency key) is tried up to five times within a minute, with the pauses that the server asks for.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None) -> None:
        """`timeout`: seconds for a connection and for each wait for bytes. `headers` go with every request.

        Raises InvalidOptionError for what is no http(s) URL.
        """
        self._transport = Transport(url, timeout=timeout, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self._transport.url

    def import_file(
        self,
        resource: str,
        source: Path | str | BinaryIO,
        *,
        name: str | None = None,
        read: ReadOptions | None = None,
        options: ImportOptions | None = None,
        idempotency_key: str | None = None,
        sent: Sent | None = None,
        cancel: threading.Event | None = None,
    ) -> Job:
        """Send a file, or what a stream still holds, and give the job that imports it. Memory stays flat.

        `name`: the file's name as the job shows it. `idempotency_key` (at most 255 characters): the same key with the same file again gives
        the first job; a random one if it is not given. `sent` is called with the bytes sent and the file's size (None for a stream).
        `cancel` ends the sending with CancelledError; the server keeps nothing then. A stream that cannot be sought is sent once only.
        Raises OSError where the file cannot be read.
        """
        path = Path(source) if isinstance(source, str) else source
        shown = name or (path.name if isinstance(path, Path) else STREAM_NAME)
        fields = {"resource": resource, **fields_of(read or ReadOptions(), options or ImportOptions())}
        upload = Upload(path, shown, fields, sent=sent, cancel=cancel)
        key = idempotency_key or str(uuid.uuid4())

        def body() -> tuple[dict[str, str], Iterator[bytes]] | None:
            return (upload.headers | {"Idempotency-Key": key}, iter(upload)) if upload.restart() else None

        answer = self._transport.send("/v1/imports", body, answer_seconds=_ANSWER_SECONDS)
        accepted = job_of(decoded(answer, dict) | {"source_name": shown})
        try:
            return self.get(accepted.job_id)
        except PenstockError as error:
            if error.http_status < SERVERS_OWN:
                raise
            return accepted  # the job is there; that nobody can look at it now must not hide its id

    def get(self, job_id: JobId) -> Job:
        """The job, an import with its first errors. Raises JobNotFoundError."""
        return self._job("GET", f"/v1/jobs/{_segment(job_id)}")

    def list(
        self,
        *,
        type: JobType | None = None,  # noqa: A002 - what everybody calls it
        status: str | None = None,
        resource: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[list[Job], str | None]:
        """Jobs of every kind, newest first, at most 200, without their errors; and the cursor of the next page."""
        given = {"type": type and type.value, "status": status, "resource": resource, "limit": limit, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        page = decoded(self._transport.ask("GET", "/v1/jobs", params=params), JobPage)
        return [job_of(item) for item in page.items], page.next

    def errors(self, job_id: JobId) -> Iterator[dict[str, Any]]:
        """Every error record, in row order, as it comes. Raises ServerUnreachableError in the middle when the connection is lost."""
        with self._transport.stream(f"/v1/imports/{_segment(job_id)}/errors", params={"format": "ndjson"}) as chunks:
            for line in lines_of(chunks):
                if line:
                    yield decoded(line, dict)

    def rejected(self, job_id: JobId) -> Iterator[bytes]:
        """The rejected records in the file's own format with their problems in `_errors`, as bytes of a file; likewise."""
        with self._transport.stream(f"/v1/imports/{_segment(job_id)}/rejected") as chunks:
            yield from chunks

    def cancel(self, job_id: JobId) -> Job:
        """Stop after the waves in flight; the job as it then stands. Raises InvalidStateError once it has ended."""
        return self._job("POST", f"/v1/imports/{_segment(job_id)}/cancel")

    def retry(self, job_id: JobId) -> Job:
        """Let a FAILED or CANCELLED job go on where it stopped. Raises InvalidStateError for others."""
        return self._job("POST", f"/v1/imports/{_segment(job_id)}/retry")

    @contextmanager
    def export(
        self,
        resource: str,
        *,
        format: Format = Format.NDJSON,  # noqa: A002 - the option's name everywhere
        fields: Sequence[str] | None = None,
        filters: Filters = (),
        spreadsheet: bool = False,
    ) -> Iterator[Iterator[bytes]]:
        """The records of one snapshot, as bytes of a file, as they come: `with server.export("users") as pieces`. Memory stays flat.

        `fields`: in this order; None is all of them. `filters`: such as {"role": "admin", "created_at[gte]": "2024-01-31T00:00:00Z"}, or
        pairs; all must hold. Raises InvalidFilterError, InvalidOptionError, UnknownResourceError, and ServerUnreachableError when the
        stream breaks off: what has come then is no whole file.
        """
        params = [("resource", resource), ("format", format.value), *_pairs(filters)]
        params += [] if fields is None else [("fields", ",".join(fields))]
        params += [("spreadsheet", "true")] if spreadsheet else []
        with self._transport.stream("/v1/exports", params=params, idle_seconds=_EXPORT_IDLE_SECONDS, to_end=True) as chunks:
            yield chunks

    def create_export(
        self,
        resource: str,
        *,
        format: Format = Format.NDJSON,  # noqa: A002 - as above
        fields: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        compression: Compression = Compression.NONE,
        spreadsheet: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """A job that writes the same to a file on the server: watch it with `events`, fetch the file with `download`.

        `idempotency_key` (at most 255 characters): the same key with the same wishes again gives the first job; a random one if not given.
        """
        asked = {"resource": resource, "format": format, "fields": fields, "filters": filters or {}, "compression": compression}
        body = msgspec.json.encode(asked | {"spreadsheet": spreadsheet})
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        answer = self._transport.send("/v1/exports", lambda: (headers, iter([body])), answer_seconds=_ANSWER_SECONDS)
        return job_of(decoded(answer, dict))

    def cancel_export(self, job_id: JobId) -> Job:
        """Stop an export; the job as it then stands. Raises InvalidStateError once it has ended."""
        return self._job("POST", f"/v1/exports/{_segment(job_id)}/cancel")

    def retry_export(self, job_id: JobId) -> Job:
        """Begin a FAILED or CANCELLED export anew. Raises InvalidStateError for others."""
        return self._job("POST", f"/v1/exports/{_segment(job_id)}/retry")

    def download(self, job_id: JobId, target: Path | str | BinaryIO) -> Job:
        """Write the file of a COMPLETED export, and give its job; a path takes its name only when the file is whole.

        Size and SHA-256 are those of the job, or ServerUnreachableError is raised. Raises InvalidStateError for a job that is not
        COMPLETED, ExportExpiredError when its file is gone, OSError where the target cannot be written.
        """
        job = self._job("GET", f"/v1/exports/{_segment(job_id)}")
        with self._transport.fetch(f"/v1/exports/{_segment(job_id)}/download", idle_seconds=_EXPORT_IDLE_SECONDS) as chunks:
            save(chunks, job, Path(target) if isinstance(target, str) else target)
        return job

    def events(self, job_id: JobId, *, patience_seconds: float = 60.0) -> Iterator[Job]:
        """The job at every change, the last time when it has ended.

        Connections that are lost are made anew; where server-sent events do not come through, the job is asked for once a second. Raises
        ServerUnreachableError when nothing answers for `patience_seconds`.
        """
        return followed(lambda: self._listen(job_id), lambda: self.get(job_id), patience_seconds=patience_seconds)

    def send_event(self, event: Mapping[str, Any]) -> SentEvent:
        """Send one product event, such as {"product_id": "abc123", "price": Decimal("49.99"), "stock": 100}; it is durable then.

        `occurred_at` (an aware datetime) says since when that holds; without it the event counts from its acceptance. Without `event_id` it
        gets a random one, so that it applies once however often it has to be sent. Raises InvalidEventError, and QueueFullError,
        DatabaseUnavailableError or EventLogUnavailableError where that did not pass.
        """
        return send_one(self._transport, event)

    def send_events(self, events: Iterable[Mapping[str, Any]]) -> Iterator[SentEvent]:
        """Send any number of them, 1,000 at a time, and tell of each what became of it, in their order. Memory stays flat.

        Nothing is sent but what is asked for: go through the results. One that is REJECTED holds up no other. When the server's backlog
        stays full, what was not stored of a batch comes as NOT_STORED, and then QueueFullError is raised. Raises as `send_event` otherwise:
        of the batch under way nothing is known then, and its events may be sent again if they have an `event_id` of their own.
        """
        return send_all(self._transport, events)

    def dead_letters(self, *, product_id: str | None = None, code: str | None = None) -> Iterator[DeadLetter]:
        """Events that could not be applied, the newest first; asked for by pages as they are taken."""
        given = {"product_id": product_id, "code": code, "limit": _LETTERS_PAGE, "cursor": None}
        while True:
            params = {name: value for name, value in given.items() if value is not None}
            page = decoded(self._transport.ask("GET", "/v1/dead-letters", params=params), DeadLetterPage)
            yield from page.items
            if page.next is None:
                return
            given["cursor"] = page.next

    def dead_letter(self, dead_letter_id: str) -> DeadLetter:
        """Raises DeadLetterNotFoundError."""
        return decoded(self._transport.ask("GET", f"/v1/dead-letters/{_segment(dead_letter_id)}"), DeadLetter)

    def replay(self, dead_letter_id: str) -> EventStatus:
        """Send a dead letter into the log again. If its event_id was applied meanwhile, it will change nothing.

        Raises DeadLetterNotFoundError, InvalidStateError for what is no event, and as `send_event`; but is asked for once only.
        """
        return decoded(self._transport.ask("POST", f"/v1/dead-letters/{_segment(dead_letter_id)}/replay"), SentEvent).status

    def replay_all(self, *, product_id: str | None = None, code: str | None = None) -> int:
        """All that are there when it begins, or those of a product or a code; how many.

        Raises QueueFullError when the log is full, with how many went in `details["replayed"]`; likewise.
        """
        given = {"product_id": product_id, "code": code}
        params = {name: value for name, value in given.items() if value is not None}
        return decoded(self._transport.ask("POST", "/v1/dead-letters/replay", params=params), Replayed).replayed

    def discard(self, dead_letter_id: str) -> None:
        """Forget a dead letter. Raises DeadLetterNotFoundError."""
        self._transport.ask("DELETE", f"/v1/dead-letters/{_segment(dead_letter_id)}")

    def record(self, resource: str, record_id: str) -> dict[str, Any]:
        """One stored record, such as a product, with its children. Raises RecordNotFoundError; RouteNotFoundError for no resource."""
        return decoded(self._transport.ask("GET", f"/v1/{_segment(resource)}/{_segment(record_id)}"), dict)

    def resources(self) -> tuple[ResourceDescription, ...]:
        """What can be imported there, parents first; without the tables' names, which a server keeps to itself."""
        found = decoded(self._transport.ask("GET", "/v1/resources"), ResourceList)
        return tuple(resource_of(item) for item in found.items)

    def resource(self, name: str) -> ResourceDescription:
        """Raises UnknownResourceError, which names what there is."""
        return resource_of(decoded(self._transport.ask("GET", f"/v1/resources/{_segment(name)}"), ResourceView))

    def health(self) -> Health:
        """What the server finds of itself, healthy or not; asked once. Raises ServerRefusedError for what is no Penstock server."""
        return decoded(self._transport.ask("GET", "/health", again=False, also_good=frozenset({503})), Health)

    def _listen(self, job_id: JobId) -> Iterator[Job]:
        path = f"/v1/jobs/{_segment(job_id)}/events"
        with self._transport.stream(path, accept="text/event-stream", idle_seconds=_EVENT_IDLE_SECONDS) as chunks:
            for data in data_of(lines_of(chunks)):
                yield job_of(decoded(data, dict))

    def _job(self, method: str, path: str) -> Job:
        return job_of(decoded(self._transport.ask(method, path), dict))


def _pairs(filters: Filters) -> list[tuple[str, str]]:
    pairs = list(filters.items() if isinstance(filters, Mapping) else filters)
    for name, value in pairs:
        if name in QUERY_OPTIONS:  # it would be taken for the option
            raise InvalidFilterError(f"{name} is no filter.", filter=name)
        if not isinstance(value, _SCALARS):  # its representation would be looked for
            raise InvalidFilterError(
                f"The filter {name} must be a text or a number here. An operator stands in its name ('created_at[gte]'), values of in have "
                "commas between them ('a,b'), and for no value there is is_null.",
                filter=name,
            )
    return pairs


def _segment(text: str) -> str:
    return quote(text, safe="")
