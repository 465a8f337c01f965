"""One export under way: a snapshot, its records in batches, in their form, in pieces of bytes."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self

import pyarrow as pa

from penstock.database.connect import APPLICATION_NAME, Database
from penstock.errors import CancelledError, DatabaseError, ExportTimeoutError, OverloadedError
from penstock.exports import statements
from penstock.exports.columns import check_types, columns
from penstock.exports.compressing import compressed
from penstock.exports.encoding import encoder
from penstock.exports.model import ExportWishes
from penstock.exports.snapshot import Snapshot, snapshot
from penstock.formats.model import Compression
from penstock.lifecycle.gate import Gate
from penstock.resources.registry import Registry
from penstock.settings import Settings

TURN_SECONDS = 5.0  # how long whoever waits for a stream waits for its turn
STALLED_RESERVE_SECONDS = 30  # the server waits longer than we do, so that it is we who say what is wrong
_ENDINGS = {Compression.NONE: "", Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}
_COMPRESSED_TYPES = {Compression.GZIP: "application/gzip", Compression.ZSTD: "application/zstd"}


class Export:
    """Entered, it has its snapshot; `pieces` are then made one by one, by whichever thread asks for the next, at its pace.

    `name` is a file's, as in users.csv.gz; `rows` counts the records so far, whose last bytes the compressor
    may still hold.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        wishes: ExportWishes,
        *,
        gate: Gate,
        turn_seconds: float | None = TURN_SECONDS,
        counted: bool = False,
        coding: Compression = Compression.NONE,
        session: str = APPLICATION_NAME,
    ) -> None:
        """`counted`: count the records first, for `total_rows`. `coding`: compressed on the way only, which is no matter of the file's.
        `turn_seconds`: how long it waits for its turn while others of this process are under way; None: until `cancel`.
        """
        resource = registry.get(wishes.resource)
        self._registry = registry
        self._wishes = wishes
        self._counted = counted
        self._coding = coding
        self._columns = columns(resource, wishes)
        self._encoder = encoder(wishes.format, self._columns, spreadsheet=wishes.spreadsheet)
        self._gate = gate
        self._turn_seconds = turn_seconds
        self._total_seconds = settings.export_total_seconds
        self._open: Callable[[], ExitStack] = partial(self._opened, database, settings, session)
        self._stack = ExitStack()
        self._snapshot: Snapshot | None = None
        self._cancelled = threading.Event()
        self._deadline = float("inf")  # on the monotonic clock
        self.name = f"{wishes.resource}.{self._encoder.ending}{_ENDINGS[wishes.compression]}"
        self.media_type = _COMPRESSED_TYPES.get(wishes.compression, self._encoder.media_type)
        self.total_rows: int | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        """Waits for its turn, then has its snapshot. Raises OverloadedError, CancelledError after `cancel`, DatabaseError."""
        self._stack = self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def pieces(self) -> Generator[bytes, None, None]:
        """From the first byte to the last, none empty.

        Raises CancelledError after `cancel`, ExportTimeoutError after EXPORT_TOTAL_SECONDS, DatabaseError, UnexportableValueError.
        """
        pieces = compressed(self._plain(), self._wishes.compression)
        yield from compressed(pieces, self._coding) if self._coding is not Compression.NONE else pieces

    def cancel(self) -> None:
        """What it does or waits for ends with a CancelledError, or what it does next. May be called by any thread, more than once."""
        self._cancelled.set()
        if self._snapshot is not None:
            self._snapshot.cancel()

    def _opened(self, database: Database, settings: Settings, session: str) -> ExitStack:
        with ExitStack() as stack:
            stack.enter_context(self._gate.export(self._wait_for_turn()))
            self._deadline = time.monotonic() + self._total_seconds
            opened = snapshot(
                database,
                name=session,
                stalled_seconds=settings.export_idle_seconds + STALLED_RESERVE_SECONDS,
                total_seconds=settings.export_total_seconds,
            )
            self._snapshot = stack.enter_context(opened)
            self._check()  # who cancelled before saw no snapshot to cancel
            if self._counted:
                with self._in_time():
                    self.total_rows = self._snapshot.value(statements.count(self._registry, self._wishes))
            return stack.pop_all()

    def _wait_for_turn(self) -> Callable[[], None]:
        """What is asked again and again while it waits."""
        until = float("inf") if self._turn_seconds is None else time.monotonic() + self._turn_seconds

        def check() -> None:
            self._check()
            if time.monotonic() >= until:
                raise OverloadedError(
                    "As many exports as may run here at once are under way. Try again in a moment, or ask for a queued export."
                )

        return check

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("The export was cancelled.")
        if time.monotonic() > self._deadline:
            raise ExportTimeoutError(
                f"The export took longer than EXPORT_TOTAL_SECONDS ({self._total_seconds} s). Ask for fewer records, or raise it.",
                seconds=self._total_seconds,
            )

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """A statement that the server ended since it took too long is told as what it is."""
        try:
            yield
        except DatabaseError:
            self._check()
            raise

    def _plain(self) -> Iterator[bytes | memoryview]:
        here = self._snapshot
        assert here is not None
        probes = statements.children_probes(self._registry, self._wishes)
        with self._in_time():
            empty = {table for table, probe in probes.items() if not here.value(probe)}
        yield self._encoder.head()
        select = statements.select(self._registry, self._wishes, empty=empty)
        constants = [column.name for column in self._columns if statements.is_empty(column, empty)]
        with self._in_time(), closing(here.batches(select)) as batches, _read_ahead(batches, here.cancel) as ahead:
            for batch in ahead:
                self._check()
                check_types(self._registry.get(self._wishes.resource), self._columns, batch.schema)
                piece = self._encoder.encode(_with_constants(batch, constants))
                self.rows += batch.num_rows
                yield piece
        yield self._encoder.tail()


@contextmanager
def _read_ahead(batches: Iterator[pa.RecordBatch], cancel: Callable[[], None]) -> Iterator[Iterator[pa.RecordBatch]]:
    """The same, with the next one being read while the last is encoded: a tenth of an export's time. `cancel` ends a read under way."""
    with ThreadPoolExecutor(1, thread_name_prefix="export-read") as pool:
        context = copy_context()  # the log lines of the thread are of the same request

        def read() -> pa.RecordBatch | None:
            return context.run(lambda: next(batches, None))

        following = pool.submit(read)

        def taken() -> Iterator[pa.RecordBatch]:
            nonlocal following
            while (batch := following.result()) is not None:
                following = pool.submit(read)
                yield batch

        try:
            yield taken()
        finally:
            if not following.done():  # nobody waits for what it reads
                cancel()


def _with_constants(batch: pa.RecordBatch, names: Iterable[str]) -> pa.RecordBatch:
    """With the columns that no record has anything in, and that were not asked for because of that."""
    for name in names:
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.repeat(pa.scalar("[]"), batch.num_rows))
    return batch
