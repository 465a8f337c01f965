"""What a database error means for whoever met it, by its SQLSTATE.

=========  =====================================================  =============================================
fault      when                                                   what to do
=========  =====================================================  =============================================
CONFLICT   another transaction was in the way                     roll back, do the same work again, bounded
OUTAGE     the server or the connection is gone, or it is full up  wait, connect again; a COMMIT's fate is unknown
DISK_FULL  the server's disk is full                              stop, say so, go on when there is space
PERMANENT  the statement will fail the same way next time         report
=========  =====================================================  =============================================
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import psycopg
from psycopg import errors

from penstock.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from penstock.logs import get_logger


class Fault(Enum):
    CONFLICT = "conflict"
    OUTAGE = "outage"
    DISK_FULL = "disk full"
    PERMANENT = "permanent"


_SERIALIZATION_FAILURE, _DEADLOCK, _LOCK_TIMEOUT, _UNIQUE_VIOLATION = "40001", "40P01", "55P03", "23505"
_CONFLICTS = frozenset({_SERIALIZATION_FAILURE, _DEADLOCK, _LOCK_TIMEOUT})
_DISK_FULL = "53100"
_PROTOCOL_VIOLATION = "08P01"  # of the connection's class, but it is what we sent that is wrong: a COPY whose data do not fit
_OUTAGE_CLASSES = ("08", "53")  # connection exceptions; insufficient resources: memory, connections, configured limits
_OUTAGES = frozenset(
    {
        "57P01",  # admin_shutdown, pg_terminate_backend too
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting up or shutting down
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout: PostgreSQL closed the connection
        "25P04",  # transaction_timeout: the same
        "25006",  # read_only_sql_transaction: a failover left us on the old primary
    }
)
_HINTS = {
    "42501": "The role lacks a right that this needs; grant it, or connect as the owner of the tables.",
    "57014": "The statement ran into statement_timeout, or somebody cancelled it.",
    "58030": "The server met an input or output error on its disk; see its log.",
    _DISK_FULL: "The disk of the database server is full. Free space there; what was committed is safe and the job can go on.",
}


def sqlstate(error: BaseException) -> str | None:
    """The five characters, or None where PostgreSQL sent none (a connection lost, a fault of the client)."""
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def classify(error: psycopg.Error, *, unique_is_conflict: bool = False) -> Fault:
    """What the error means. With `unique_is_conflict` a unique violation counts as a conflict: somebody else was quicker."""
    state = error.sqlstate
    if state is None:
        # psycopg gives no state for what it finds out itself: a closed connection, a failed connect, a pool that ran out of time.
        return Fault.OUTAGE if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else Fault.PERMANENT
    return fault_of(state, unique_is_conflict=unique_is_conflict)


def fault_of(state: str, *, unique_is_conflict: bool = False) -> Fault:
    """The same by the SQLSTATE alone, whatever driver met it."""
    if state == _DISK_FULL:
        return Fault.DISK_FULL
    if state in _CONFLICTS or (unique_is_conflict and state == _UNIQUE_VIOLATION):
        return Fault.CONFLICT
    if state == _PROTOCOL_VIOLATION:
        return Fault.PERMANENT
    return Fault.OUTAGE if state in _OUTAGES or state.startswith(_OUTAGE_CLASSES) else Fault.PERMANENT


def is_conflict(error: BaseException, *, unique_is_conflict: bool = False) -> bool:
    """Whether the same work, done again from a new transaction, may succeed."""
    return isinstance(error, psycopg.Error) and classify(error, unique_is_conflict=unique_is_conflict) is Fault.CONFLICT


def is_outage(error: BaseException) -> bool:
    """Whether the server is away. If this came from COMMIT, ask the ledger whether it took effect."""
    return isinstance(error, psycopg.Error) and classify(error) is Fault.OUTAGE


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and classify(error) is Fault.DISK_FULL


def is_unique_violation(error: BaseException) -> bool:
    return isinstance(error, errors.UniqueViolation)


def translate(error: psycopg.Error, *, doing: str) -> DatabaseError:
    """The error to raise instead, `from error`; `doing` completes "while ...".

    The driver's own text may quote a row, so it goes to the log and never into the message. `details` holds `sqlstate`.
    """
    fault, state = classify(error), error.sqlstate
    get_logger(__name__).warning(
        "database error", doing=doing, fault=fault.value, sqlstate=state, text=str(error), kind=type(error).__name__
    )
    name = f"{type(error).__name__}, SQLSTATE {state}" if state else type(error).__name__
    return told(fault, state, name, doing=doing)


def told(fault: Fault, state: str | None, name: str, *, doing: str) -> DatabaseError:
    """What a client is told. `name`: the error's, without anything of what it says."""
    if fault is Fault.OUTAGE:
        return DatabaseUnavailableError(
            f"PostgreSQL went away while {doing} ({name}). Check that it runs and can be reached, then try again.", sqlstate=state
        )
    if fault is Fault.CONFLICT:
        return DatabaseUnavailableError(f"Other transactions kept getting in the way while {doing} ({name}). Try again.", sqlstate=state)
    hint = _HINTS.get(state or "", "The log has PostgreSQL's own words.")
    return DatabaseRefusedError(f"PostgreSQL refused while {doing} ({name}). {hint}", sqlstate=state)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """What PostgreSQL raises inside comes out as `translate` has it."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, doing=doing) from error
