"""One attempt at a queued export: from its claim to a file in storage that the job shows, or to nothing at all."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import stamina
from psycopg.rows import dict_row

from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Database
from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import translated
from penstock.errors import (
    CancelledError,
    DatabaseError,
    DatabaseUnavailableError,
    HandedOverError,
    LeaseLostError,
    ObjectNotFoundError,
    PenstockError,
    UnbalancedBooksError,
)
from penstock.exports.producing import Export
from penstock.exports.stored import stored_wishes
from penstock.exports.watching import SQL, Watch
from penstock.jobs.model import JobStatus
from penstock.lifecycle.attempt import Attempt, Heartbeat, Signals, failure_of, hand_over, leave
from penstock.lifecycle.claiming import Claim, session_name
from penstock.lifecycle.gate import Gate
from penstock.lifecycle.statements import SQL as JOBS
from penstock.logs import get_logger
from penstock.queue import Queue
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.storage import EXPORTS, Key

if TYPE_CHECKING:  # it brings what only a server needs
    from penstock.storage import Storage

Connection = psycopg.Connection[Any]

# How long the database is waited for when there is something to note; the attempt then gives up, and the job waits for the next one.
_PATIENCE_SECONDS = 60.0
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process lends to its exports."""

    database: Database
    registry: Registry
    settings: Settings
    queue: Queue
    storage: "Callable[[], Storage]"
    gate: Gate


class _File:
    """What has passed of a file on its way into storage."""

    def __init__(self, key: Key, name: str) -> None:
        self.key = key
        self.name = name
        self.rows = 0
        self.size = 0  # bytes
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._digest.update(piece)


class Run:
    """Not to be used twice."""

    def __init__(self, here: Surroundings, claim: Claim, signals: Signals) -> None:
        self._here = here
        self._claim = claim
        self._signals = signals
        self._attempt = Attempt(claim.job_id, claim.epoch)
        self._file: _File | None = None  # once it may be in storage

    def run(self) -> None:
        """To the job's end: COMPLETED, FAILED with the reason, or CANCELLED.

        Raises LeaseLostError and errors of outages, which leave the job as it is for the next attempt; HandedOverError after the next one
        was woken; and anything unforeseen, after the job was failed for it.
        """
        lease = self._here.settings.import_job_lease_seconds
        heart = Heartbeat(self._beating, self._attempt, lease_seconds=lease, cancel=self._signals.cancel, lost=self._signals.lost)
        try:
            with heart.beating():
                self._carry()
        except (HandedOverError, LeaseLostError):  # the attempt has ended already
            raise
        except PenstockError as error:
            leave(self._beating, self._attempt, error)
            raise

    def _carry(self) -> None:
        try:
            self._complete(self._written())
        except CancelledError:
            self._discard()
            self._close(JobStatus.CANCELLED, None)
        except HandedOverError:
            self._discard()
            self._persist(lambda connection: hand_over(connection, self._attempt, self._here.queue))
            reach(CrashPoint.JOB_HANDED_OVER)
            raise
        except LeaseLostError:
            self._discard()
            raise
        except PenstockError as error:
            if error.http_status == _UNAVAILABLE:
                self._interrupted()
                raise
            self._discard()
            self._close(JobStatus.FAILED, error)
        except Exception:
            self._discard()
            self._close(JobStatus.FAILED, PenstockError("Penstock met an error of its own; its log has the details."))
            raise

    def _written(self) -> _File:
        """The file, whole in storage, which the job does not know of yet. The snapshot and the permit are given back."""
        with self._stopping():
            self._signals.check(self._claim.job_id)
            wishes = stored_wishes(self._here.registry, self._claim.options)
            export = Export(
                self._here.database,
                self._here.registry,
                self._here.settings,
                wishes,
                gate=self._here.gate,
                turn_seconds=None,
                counted=True,
                session=session_name(self._claim.job_id),
            )
            file = _File(Key(f"{EXPORTS}{self._claim.job_id}/{self._claim.epoch}/{export.name}"), export.name)
            watch = Watch(self._connect, self._attempt, export, self._signals, lambda: file.size)
            with watch.watching(), export:
                self._note(file, watch)
                self._file = file
                reach(CrashPoint.EXPORT_COUNTED)
                with closing(self._pieces(export, file, watch)) as pieces:
                    self._here.storage().write(file.key, pieces, content_type=export.media_type)
            reach(CrashPoint.EXPORT_WRITTEN)
        return file

    def _pieces(self, export: Export, file: _File, watch: Watch) -> Generator[bytes, None, None]:
        with closing(export.pieces()) as pieces:
            for piece in pieces:
                self._signals.check(self._claim.job_id)
                file.add(piece)
                yield piece
        file.rows = export.rows
        if file.rows != export.total_rows:
            raise UnbalancedBooksError(
                f"The export holds {file.rows} records where its snapshot has {export.total_rows}. This is a defect of Penstock; please "
                "report it."
            )
        # Storage publishes what is whole. Whoever lost the lease must not even leave an object that no row names.
        self._note(file, watch)
        self._signals.check(self._claim.job_id)

    def _note(self, file: _File, watch: Watch) -> None:
        values = {"key": file.key, "name": file.name, "resource": self._claim.resource, "job_id": self._claim.job_id}

        def note(connection: Connection) -> None:
            connection.execute(SQL["note_file"], values)
            watch.tell(connection)

        self._persist(note)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """What was told to stop says that it was cancelled, or that it failed: why it was told is what counts."""
        try:
            yield
        except PenstockError:
            self._signals.check(self._claim.job_id)
            raise

    def _complete(self, file: _File) -> None:
        values = {"key": file.key, "size": file.size, "sha256": file.sha256, "total_rows": file.rows, "processed_rows": file.rows}
        values |= {"job_id": self._claim.job_id, "file_hours": self._here.settings.file_retention_hours}

        def complete(connection: Connection) -> None:
            """Done again after an outage it finds what the first time came to; the lock waits for a COMMIT that is still under way."""
            with connection.cursor(row_factory=dict_row) as cursor:
                job = cursor.execute(JOBS["lock_job"], values).fetchone()
            if job is not None and not JobStatus(job["status"]).finished:
                if job["cancel_requested"]:  # whoever asked was told yes, and finds no file
                    raise CancelledError("The job was cancelled.", job_id=self._claim.job_id)
                if not connection.execute(SQL["complete"], values).rowcount:
                    raise ObjectNotFoundError("The file was removed from storage before the export had ended.", key=file.key)
                self._end_attempt(connection, JobStatus.COMPLETED)
                reach(CrashPoint.EXPORT_COMPLETING)
            elif connection.execute(SQL["is_completed"], values).fetchone() is None:
                raise LeaseLostError("The job has ended without this attempt.", job_id=self._claim.job_id)

        self._persist(complete)
        reach(CrashPoint.EXPORT_COMPLETED)

    def _interrupted(self) -> None:
        """After an outage, which may be the work of whoever took over: that ends the sessions of the attempt before.

        A file stays until housekeeping comes: whether a COMMIT without a reply gave it to the job is not known. Raises LeaseLostError.
        """
        with suppress(DatabaseError):
            try:
                with self._transaction():
                    pass
            except LeaseLostError:
                self._discard()
                raise

    def _close(self, status: JobStatus, error: PenstockError | None) -> None:
        failure = None if error is None else jsonb(failure_of(error))
        values: dict[str, Any] = {"job_id": self._claim.job_id, "status": status, "failure": failure}
        values |= {"file_hours": self._here.settings.file_retention_hours}
        values |= dict.fromkeys(("total_rows", "warnings", "error_summary"))

        def close(connection: Connection) -> None:
            connection.execute(JOBS["close_books"], values)
            self._end_attempt(connection, status)

        self._persist(close)

    def _end_attempt(self, connection: Connection, status: JobStatus) -> None:
        connection.execute(JOBS["end_attempt"], {"job_id": self._claim.job_id, "epoch": self._claim.epoch, "outcome": status})

    def _discard(self) -> None:
        """The object and its row, unless it is the job's. What cannot be removed now is past its time, and housekeeping comes for it."""
        if self._file is None:
            return
        values = {"key": self._file.key, "job_id": self._claim.job_id}
        try:
            with closing(self._connect()) as connection, translated("removing a file"):
                if connection.execute(SQL["is_completed"], values).fetchone() is not None:
                    return
                connection.execute(SQL["give_up_file"], values)
                self._here.storage().delete(self._file.key)
                connection.execute(SQL["forget_file"], values)
        except PenstockError as error:
            get_logger(__name__).warning("the file is removed later", key=self._file.key, code=error.code, reason=error.message)

    def _persist(self, write: Callable[[Connection], None]) -> None:
        """Write behind the fence, again while the database is away or others are in the way, bounded.

        Raises LeaseLostError, DatabaseError.
        """
        for attempt in stamina.retry_context(
            on=DatabaseUnavailableError, attempts=None, timeout=_PATIENCE_SECONDS, wait_initial=0.05, wait_max=2.0, wait_jitter=0.1
        ):
            with attempt, self._transaction() as connection:
                write(connection)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with closing(self._connect()) as connection, translated("exporting"), connection.transaction():
            self._attempt.hold_fence(connection)
            yield connection

    def _connect(self) -> Connection:
        """Ended by whoever takes over."""
        return self._here.database.connect(autocommit=True, application_name=session_name(self._claim.job_id))

    def _beating(self) -> Connection:
        return self._here.database.connect(autocommit=True)
