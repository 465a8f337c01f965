"""The import street: one attempt at one job, from its file to closed books."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from typing import Any

import msgspec
import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import translated
from penstock.errors import (
    CancelledError,
    DatabaseRefusedError,
    FileChangedError,
    HandedOverError,
    InvalidSourceError,
    LeaseLostError,
    ObjectNotFoundError,
    PenstockError,
    RejectedRecordsError,
    TooManyErrorsError,
    UnbalancedBooksError,
)
from penstock.formats import open_reader
from penstock.formats.model import Dialect, Position, Reader, ReadOptions
from penstock.imports import rejections
from penstock.imports.books import AtomicBooks, Books, DryRunBooks, TogetherBooks
from penstock.imports.bringing import bring
from penstock.imports.lanes import Lane
from penstock.imports.ledger import SQL, Connection, Ledger, WavePlan
from penstock.imports.merging import REFUSED, WaveMerger
from penstock.imports.statements import build
from penstock.imports.surroundings import Progress, Surroundings
from penstock.imports.unit import Task
from penstock.imports.waves import Wave, WaveReader, ahead
from penstock.jobs.model import Empty, ImportOptions, JobStatus, Mode, OnError
from penstock.lifecycle.attempt import Signals, failure_of, hand_over
from penstock.lifecycle.claiming import Claim, session_name
from penstock.lifecycle.statements import SQL as JOBS
from penstock.resources.checks import CheckOptions
from penstock.sources import Source
from penstock.sources.places import RemoteUrl, place_of


class Street:
    """One pass over a claimed job, from where the ledger says that it stands to its end. Not to be used twice."""

    def __init__(
        self,
        here: Surroundings,
        claim: Claim,
        *,
        progress: Callable[[Progress], None],
        signals: Signals,
        cautious: bool,
    ) -> None:
        self._here = here
        self._claim = claim
        self._progress = progress
        self._signals = signals
        self._cautious = cautious
        self._ledger = Ledger(claim.job_id, claim.epoch)
        self._options = msgspec.convert(claim.options, ImportOptions)
        self._resource = here.registry.get(claim.resource)
        self._ledger_lane = Lane(self._connect, self._ledger)
        self._warnings: list[str] = []
        self._summary: list[dict[str, Any]] = []
        self._failed_rows = 0
        self._total_rows: int | None = None

    def run(self) -> None:
        """Import, and close the books: COMPLETED, FAILED with the reason, or CANCELLED.

        Raises LeaseLostError and errors of outages, which leave the job as it is for the next attempt; HandedOverError after the next one
        was woken; and anything unforeseen, after the job was failed for it.
        """
        with closing(self._ledger_lane):
            try:
                with translated("importing"):
                    self._import()
            except CancelledError:
                self._close(JobStatus.CANCELLED, None)
            except HandedOverError:
                self._apart(lambda connection: hand_over(connection, self._ledger, self._here.queue))
                reach(CrashPoint.JOB_HANDED_OVER)
                raise
            except (LeaseLostError, UnbalancedBooksError):
                raise
            except PenstockError as error:
                if error.http_status == _UNAVAILABLE:
                    raise
                self._close(JobStatus.FAILED, error)
            except Exception:
                self._close(JobStatus.FAILED, PenstockError("Penstock met an error of its own; its log has the details."))
                raise

    def _connect(self) -> Connection:
        """Commits do not wait for the disk: rows and receipts are in one log, so a crash of the server loses the last of both together, and
        the next pass does them again. The end of the job waits (`durable_end`), and with it everything before.
        """
        connection = self._here.database.connect(autocommit=True, application_name=session_name(self._claim.job_id))
        if not self._cautious:
            connection.execute("SET synchronous_commit = off")
        return connection

    def _import(self) -> None:
        source = self._open_source()
        reader = self._open_reader(source)
        if self._options.atomic or self._options.dry_run:
            self._import_as_one(source, reader)
            return
        books = TogetherBooks(self._ledger)
        merger = self._merger(books, lambda: Lane(self._connect, self._ledger), self._here.partitions, self._permit)
        with closing(merger):
            self._merge_all(source, reader, merger)
        self._close(JobStatus.COMPLETED, None)

    def _import_as_one(self, source: Source, reader: Reader) -> None:
        """One connection, one transaction around everything: committed with the closed books, or rolled back."""
        books: AtomicBooks | DryRunBooks = (DryRunBooks if self._options.dry_run else AtomicBooks)(self._ledger, self._apart)
        try:
            with self._permit():
                landed = self._landed_as_one(books, source, reader)
            if landed:
                return
        except (HandedOverError, LeaseLostError):  # the next attempt starts from nothing
            raise
        except PenstockError:
            if self._options.atomic:
                self._apart(self._ledger.void_receipts)
            raise
        if self._options.atomic and self._failed_rows:
            self._apart(self._ledger.void_receipts)
            raise RejectedRecordsError(
                f"{self._failed_rows} records were rejected, so nothing was imported. Mend them, or import without `atomic`."
            )
        self._close(JobStatus.COMPLETED, None)

    def _landed_as_one(self, books: AtomicBooks | DryRunBooks, source: Source, reader: Reader) -> bool:
        """Whether it was committed, the books with it."""
        with closing(self._connect()) as connection, ExitStack() as stack:
            # It waits for each wave to be read. Should this process stop meanwhile, a takeover ends the session.
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            lane = Lane(lambda: connection, self._ledger)
            merger = stack.enter_context(closing(self._merger(books, lambda: lane, 1)))
            kept = False
            with connection.transaction() as whole:
                self._merge_all(source, reader, merger)
                if isinstance(books, DryRunBooks) or books.doomed:
                    raise psycopg.Rollback(whole)
                self._write_close(connection, JobStatus.COMPLETED, None)
                kept = True
                reach(CrashPoint.JOB_COMPLETING)
        if kept:
            reach(CrashPoint.JOB_COMPLETED)
        return kept

    def _apart(self, write: Callable[[Connection], None]) -> None:
        def commit() -> None:
            with self._ledger_lane.transaction() as (connection, _):
                write(connection)

        self._ledger_lane.persist(commit)

    def _permit(self) -> AbstractContextManager[None]:
        return self._here.gate.permit(self._guard) if self._here.gate else nullcontext()

    def _merger(
        self, books: Books, lane: Callable[[], Lane], partitions: int, permit: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> WaveMerger:
        targets = {name: self._here.registry.get(name) for name in {r.resource for r in self._resource.references}}
        task = Task(self._resource, targets, self._options, build(self._resource, self._options.empty), books)
        return WaveMerger(task, self._ledger, self._ledger_lane, lane, partitions=partitions, permit=permit)

    # -- the file --------------------------------------------------------------------------------------------------------------------

    def _open_source(self) -> Source:
        place = place_of(self._claim.source)
        if isinstance(place, RemoteUrl):
            self._claim = bring(self._here.sources, self._here.settings, self._claim, place, self._apart, self._guard)
            place = place_of(self._claim.source)
        try:
            source = self._here.sources.open(place)
        except (InvalidSourceError, ObjectNotFoundError) as error:
            raise FileChangedError(f"The file is not there any more: {error.message}") from error
        if source.fingerprint() != self._claim.source["fingerprint"]:
            raise FileChangedError(f"{source.name} does not hold the bytes that it held when the job was made. Import it anew.")
        return source

    def _open_reader(self, source: Source) -> Reader:
        stored = msgspec.convert(self._claim.dialect, Dialect) if self._claim.dialect else None
        read = msgspec.convert(self._claim.reading, ReadOptions)
        reader = open_reader(source, self._resource, read, dialect=stored, partial=self._options.mode is Mode.UPDATE)
        self._apart(lambda connection: self._keep_dialect(connection, reader.dialect, fresh=stored is None))
        return reader

    def _keep_dialect(self, connection: Connection, dialect: Dialect, *, fresh: bool) -> None:
        row = connection.execute(SQL["warnings"], {"job_id": self._claim.job_id}).fetchone()
        assert row is not None
        self._warnings = list(row[0])
        if fresh:
            self._warn_ignored(dialect.ignored, "columns")
            values = {"job_id": self._claim.job_id, "dialect": jsonb(msgspec.to_builtins(dialect)), "warnings": jsonb(self._warnings)}
            connection.execute(SQL["store_dialect"], values)

    def _warn_ignored(self, names: Iterable[str], what: str) -> None:
        """One line, which grows: an attempt that goes on adds to what the one before has noted."""
        intro = f"Ignored {what} that {self._resource.name} does not have: "
        noted = next((line for line in self._warnings if line.startswith(intro)), intro)
        known = set(noted.removeprefix(intro).removesuffix(".").split(", ")) - {""}
        if new := sorted(set(names) - known):
            shown = [*sorted(known), *new][:_MOST_NAMES]
            self._warnings = [line for line in self._warnings if line != noted] + [f"{intro}{', '.join(shown)}."]

    # -- the waves -------------------------------------------------------------------------------------------------------------------

    def _merge_all(self, source: Source, reader: Reader, merger: WaveMerger) -> None:
        start, number, redo = self._resume()
        options = self._check_options()
        wave_reader = WaveReader(reader, self._resource, options, source.position)
        end = redo.end if redo else start
        with closing(ahead(wave_reader.waves(start, number, redo))) as waves:
            for wave in waves:
                self._guard()
                self._warn_ignored(wave.ignored, "keys")
                self._stop_before(merger, wave)
                self._book(merger.merge(wave), wave, source)
                end = wave.end
                self._stop_after()
        if self._signals.cancel.is_set():  # also behind the last wave: whoever asked was told that the job is stopped
            self._guard()
        source.verify()
        self._total_rows = end.row - 1

    def _check_options(self) -> CheckOptions:
        options = self._options
        keeps = options.empty is Empty.KEEP
        return CheckOptions(
            partial=options.mode is Mode.UPDATE and keeps,
            nulls_are_final=options.mode is Mode.INSERT or not keeps,
            timezone=options.timezone,
            datetime_format=options.datetime_format,
        )

    def _resume(self) -> tuple[Position, int, WavePlan | None]:
        """Where to go on: position, number of the next wave, and the wave that an earlier attempt left unfinished."""
        return self._ledger_lane.persist(self._read_standing)

    def _read_standing(self) -> tuple[Position, int, WavePlan | None]:
        with self._ledger_lane.transaction() as (connection, _):
            if self._options.atomic or self._options.dry_run:
                self._ledger.forget_all(connection)
            last = self._ledger.last_wave(connection)
            if last is None:
                return Position(), 0, None
            landed = self._ledger.landed(connection, last.wave)
            if REFUSED in landed:
                self._ledger.forget_wave(connection, last)
            self._summary = rejections.merged(self._ledger.summaries(connection))
            self._failed_rows = self._ledger.totals(connection)["failed_rows"]
        if REFUSED in landed:
            return last.start, last.wave, None
        needed = {*range(last.partitions), *([last.tied_partition] if last.tied else [])}
        return (last.end, last.wave + 1, None) if needed <= landed else (last.start, last.wave, last)

    def _guard(self) -> None:
        self._signals.check(self._claim.job_id)

    def _stop_before(self, merger: WaveMerger, wave: Wave) -> None:
        """What is known to end the import ends it before the wave's good records land."""
        if not wave.bad or wave.plan is not None:
            return
        limit = self._options.max_errors
        too_many = limit is not None and self._failed_rows + len(wave.bad) > limit
        if too_many or self._options.on_error is OnError.ABORT:
            self._book([merger.refuse(wave)], wave, None)
            self._stop_after()

    def _stop_after(self) -> None:
        limit = self._options.max_errors
        if limit is not None and self._failed_rows > limit:
            raise TooManyErrorsError(f"More than {limit} records were rejected, so the import stopped.", max_errors=limit)
        if self._failed_rows and self._options.on_error is OnError.ABORT:
            raise RejectedRecordsError("A record was rejected, so the import stopped; what was committed before it stays.")

    def _book(self, receipts: list[Any], wave: Wave, source: Source | None) -> None:
        self._failed_rows += sum(receipt.rejected for receipt in receipts)
        self._summary = rejections.merged([self._summary, *(receipt.summary for receipt in receipts)])
        totals: dict[str, int] = {}

        def report(connection: Connection) -> None:
            totals.update(self._ledger.totals(connection))
            wished = self._ledger.report_progress(
                connection, totals, processed_bytes=wave.processed_bytes, summary=self._summary, warnings=self._warnings
            )
            if wished:
                self._signals.cancel.set()

        self._apart(report)
        if source is not None:
            source.verify()
        self._progress(
            Progress(
                job_id=self._claim.job_id,
                processed_rows=wave.end.row - 1,
                failed_rows=self._failed_rows,
                processed_bytes=wave.processed_bytes,
                total_bytes=self._claim.source["size"],
            )
        )

    # -- the end ---------------------------------------------------------------------------------------------------------------------

    def _close(self, status: JobStatus, error: PenstockError | None) -> None:
        def write(connection: Connection) -> None:
            self._write_close(connection, status, error)
            reach(CrashPoint.JOB_COMPLETING)

        try:
            self._apart(write)
        except DatabaseRefusedError as refused:
            if not isinstance(refused.__cause__, psycopg.errors.CheckViolation):
                raise
            unbalanced = UnbalancedBooksError(
                "The books of this import do not balance: not every record that was read is accounted for. This is a defect of Penstock; "
                "please report it. What the receipts show has landed."
            )
            self._close(JobStatus.FAILED, unbalanced)
            raise unbalanced from refused
        reach(CrashPoint.JOB_COMPLETED)

    def _write_close(self, connection: Connection, status: JobStatus, error: PenstockError | None) -> None:
        failure = None if error is None else jsonb(failure_of(error))
        values = {
            "job_id": self._claim.job_id,
            "epoch": self._claim.epoch,
            "status": status,
            "outcome": status,
            "failure": failure,
            "file_hours": self._here.settings.file_retention_hours,
            "total_rows": self._total_rows if status is JobStatus.COMPLETED else None,
            "warnings": jsonb(self._warnings),
            "error_summary": jsonb(rejections.merged(self._ledger.summaries(connection))),
        }
        connection.execute(JOBS["durable_end"])
        connection.execute(JOBS["close_books"], values)
        connection.execute(JOBS["end_attempt"], values)


_UNAVAILABLE = 503
_MOST_NAMES = 100  # in a warning
