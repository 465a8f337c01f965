"""Reading from one snapshot of the database, as Arrow.

The driver sends `COPY (query) TO STDOUT (FORMAT binary)` and makes Arrow of what comes, in C++: half the time of any text that PostgreSQL
makes, and without the interpreter's lock. It has connections of its own (docs/decisions/exports.md).
"""

import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import adbc_driver_manager as adbc
import adbc_driver_postgresql.dbapi as driver
import pyarrow as pa
from psycopg import sql
from psycopg.conninfo import make_conninfo

from penstock.database.connect import APPLICATION_NAME, CLIENT_CHECK, Database
from penstock.database.sqlstates import Fault, fault_of, told
from penstock.errors import CancelledError, DatabaseError, DatabaseRefusedError, DatabaseUnavailableError, PenstockError
from penstock.logs import get_logger

BATCH_BYTES = 4 * 1024 * 1024  # of Arrow; larger ones cost memory and gain no speed
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Snapshot:
    """One transaction that sees the database as it was when its first statement began. One thread uses it; any may cancel it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursor: Any = None
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def value(self, statement: str) -> Any:
        """The first column of the first row."""
        rows = [row for batch in self.batches(statement) for row in batch.column(0).to_pylist()]
        return rows[0]

    def batches(self, statement: str) -> Generator[pa.RecordBatch, None, None]:
        """The rows in order, in batches of about BATCH_BYTES. Raises CancelledError after `cancel`, DatabaseError.

        PostgreSQL goes no further than its buffers while nobody takes a batch.
        """
        cursor = self._connection.cursor(adbc_stmt_kwargs={"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
        try:
            with self._faults():
                self._begin(cursor)
                cursor.execute(statement)
                reader = cursor.fetch_record_batch()
            while True:
                with self._faults():
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch
        finally:
            self._end(cursor)

    def cancel(self) -> None:
        """Whatever is read at this moment, or later, ends with CancelledError. May be called by any thread, more than once."""
        self._cancelled.set()
        with self._lock:
            if self._cursor is not None:
                with suppress(adbc.Error):  # it has just ended
                    self._cursor.adbc_cancel()

    def _begin(self, cursor: Any) -> None:
        with self._lock:
            self._cursor = cursor
        self.check()

    def _end(self, cursor: Any) -> None:
        with self._lock:
            self._cursor = None
        with suppress(adbc.Error):  # what was wrong has been raised
            cursor.close()

    def check(self) -> None:
        """Raises CancelledError after `cancel`."""
        if self._cancelled.is_set():
            raise CancelledError("The export was cancelled.")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (adbc.Error, pa.ArrowException, OSError) as error:
            self.check()
            raise _translated(error, alive=self._is_alive()) from error

    def _is_alive(self) -> bool:
        """Whether the server still listens to this connection: what it says of a statement that broke off in the middle has no SQLSTATE."""
        try:
            _execute(self._connection, "ROLLBACK")
        except PenstockError:
            return False
        return True


@contextmanager
def snapshot(database: Database, *, stalled_seconds: int, total_seconds: int, name: str = APPLICATION_NAME) -> Iterator[Snapshot]:
    """A connection of its own with one read-only transaction. `name` is what the server shows of it.

    The server ends it when nobody takes what it sends for `stalled_seconds`, and each statement after
    `total_seconds`. Raises DatabaseError.
    """
    conninfo = make_conninfo(database.conninfo, application_name=name, client_encoding="UTF8")
    settings = database.session_settings() | {
        "statement_timeout": f"{total_seconds}s",
        # A client that reads slowly keeps the server from sending; that is no dead connection yet.
        "tcp_user_timeout": str(stalled_seconds * 1000),
        # Worth its price for sums over millions of rows, not for giving them out.
        "jit": "off",
    }
    try:
        connection: Any = driver.connect(conninfo, autocommit=True)
    except (adbc.Error, pa.ArrowException, OSError) as error:
        raise _unreachable(database, error) from error
    try:
        opened = Snapshot(connection)
        _set(opened, settings)
        _execute(connection, _BEGIN)
        yield opened
    finally:
        with suppress(adbc.Error):  # a connection that broke has nothing left to close
            connection.close()


def _set(opened: Snapshot, settings: Mapping[str, str]) -> None:
    def statement(wanted: Mapping[str, str]) -> str:
        calls = (sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in wanted.items())
        return sql.SQL("SELECT 1 FROM (SELECT {}) AS done").format(sql.SQL(", ").join(calls)).as_string(None)

    try:
        # The longest waits of an export are before its first record, where the server sends nothing and would not see that its client died.
        opened.value(statement({**settings, **CLIENT_CHECK}))
    except DatabaseRefusedError:
        opened.value(statement(settings))


def _execute(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
    except (adbc.Error, pa.ArrowException, OSError) as error:
        raise _translated(error, alive=False) from error
    finally:
        cursor.close()


def _translated(error: Exception, *, alive: bool) -> DatabaseError:
    """The driver's own words may quote a value: they go to the log and never into the message."""
    state = getattr(error, "sqlstate", None)
    fault = Fault.OUTAGE if not alive else fault_of(state) if state else Fault.PERMANENT
    text, kind = str(error), type(error).__name__
    get_logger(__name__).warning("database error", doing="exporting", fault=fault.value, sqlstate=state, text=text, kind=kind)
    return told(fault, state, f"SQLSTATE {state}" if state else kind, doing="exporting")


def _unreachable(database: Database, error: Exception) -> DatabaseError:
    get_logger(__name__).warning("cannot connect to PostgreSQL", where=database.where, text=str(error))
    return DatabaseUnavailableError(f"Cannot connect to PostgreSQL at {database.where}: check that it runs and can be reached.")
