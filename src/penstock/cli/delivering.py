"""An export on its way to its target: how far it is, and in the end how much it was."""

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from penstock.cli.failures import LANDED, print_json
from penstock.cli.interrupts import Interrupts
from penstock.cli.progress import Given, View, can_draw, view_for
from penstock.cli.service import ExportRequest, ExportService, ExportStream
from penstock.cli.session import Session
from penstock.cli.summary import plain_table
from penstock.cli.targets import Target
from penstock.cli.terminal import clean, count, duration, safe, size
from penstock.errors import CancelledError
from penstock.formats.model import Compression

_PARTING_SECONDS = 1.0  # for what is under way to end by itself after Ctrl-C; then the process goes without it


@dataclass(frozen=True, slots=True)
class Delivered:
    """`rows` is None for an export of a server, which does not tell how many there were."""

    rows: int | None
    bytes: int
    sha256: str
    seconds: float


class Delivery:
    """One export, from the service that gives it to its target."""

    def __init__(
        self,
        session: Session,
        request: ExportRequest,
        target: Target,
        exports: ExportService,
        interrupts: Interrupts,
        *,
        quiet: bool = False,
    ) -> None:
        self._session = session
        self._request = request
        self._target = target
        self._exports = exports
        self._interrupts = interrupts
        self._talks = not (quiet or session.as_json)
        self._quiet = quiet
        self._stream: ExportStream | None = None
        self._ended = threading.Event()

    def deliver(self) -> Delivered:
        """Raises CancelledError after Ctrl-C, OSError where the target cannot be written; then there is no file."""
        name = self._request.resource if self._target.path is None else self._target.shown
        counted = self._talks and can_draw(self._session.err)
        view = view_for(self._session.err, name, quiet=not self._talks)
        with view, self._interrupts.parting("", self._target.discard):
            return self._interrupts.run(lambda: self._carry(view, counted=counted), self._stop)

    def _carry(self, view: View, *, counted: bool) -> Delivered:
        started = time.monotonic()
        digest, written = hashlib.sha256(), 0
        try:
            stream = self._stream = self._exports.stream(self._request, counted=counted)
            self._check()  # who stopped before saw no stream to cancel
            # The target first: a pipe may wait long for its reader, and a snapshot is not to be kept for that.
            with self._target as target, stream:
                for piece in stream.pieces():
                    self._check()
                    target.write(piece)
                    digest.update(piece)
                    written += len(piece)
                    view(Given(stream.rows, stream.total_rows, written))
                self._check()
            return Delivered(stream.rows, written, digest.hexdigest(), time.monotonic() - started)
        finally:
            self._ended.set()

    def _check(self) -> None:
        if self._interrupts.cancel.is_set():
            raise CancelledError("interrupted")

    def _stop(self) -> None:
        """At once: whoever reads a pipe may take nothing any more, and a server may be silent."""
        if self._stream is not None:  # in a thread of its own: over a network that hangs, PostgreSQL cannot be told
            threading.Thread(target=self._stream.cancel, name="cancel", daemon=True).start()
        if not self._ended.wait(_PARTING_SECONDS):
            self._target.discard()
            raise CancelledError("interrupted")

    def show(self, done: Delivered) -> int:
        """The exit status."""
        beside = self._target.path is None
        if self._session.as_json:
            print_json(self._facts(done), to_stderr=beside)
        elif not self._quiet:
            print_delivered(self._session.err if beside else self._session.out, self._request, self._target.shown, done)
        return LANDED

    def _facts(self, done: Delivered) -> dict[str, Any]:
        request = self._request
        return {
            "resource": request.resource,
            "file": None if self._target.path is None else clean(self._target.shown),
            "format": request.format,
            "compression": request.compression,
            "fields": request.fields,
            "filters": request.filters,
            "spreadsheet": request.spreadsheet,
            "rows": done.rows,
            "size_bytes": done.bytes,
            "sha256": done.sha256,
            "seconds": round(done.seconds, 3),
        }


def print_delivered(console: Console, request: ExportRequest, shown: str, done: Delivered) -> None:
    form = request.format.value + ("" if request.compression is Compression.NONE else f", {request.compression.value}")
    console.print(safe(shown, "bold", 80) + safe(f" from {request.resource} ({form}): ") + safe("completed", "green"), soft_wrap=True)
    columns = ("  Records", "Size", "Time", "Rows/s") if done.rows is not None else ("  Size", "Time", "Speed")
    table = plain_table(console, *columns, right=columns)
    if done.rows is not None:
        table.add_row(count(done.rows), size(done.bytes), duration(done.seconds), count(done.rows / done.seconds if done.seconds else None))
    else:
        table.add_row(size(done.bytes), duration(done.seconds), f"{size(done.bytes / done.seconds)}/s" if done.seconds else "-")
    console.print(table)
