"""What PostgreSQL's errors mean for events, told without a word of PostgreSQL's that may quote one."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from penstock.database.sqlstates import Fault, classify, told
from penstock.errors import DatabaseError, DatabaseUnavailableError
from penstock.logs import get_logger

_DATA_CLASSES = ("22", "23")  # data exceptions, broken constraints
_PROTOCOL_VIOLATION = "08P01"  # a COPY whose data do not fit


@contextmanager
def faults(doing: str) -> Iterator[None]:
    """What PostgreSQL raises inside comes out as `translate` has it."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, doing=doing) from error


def translate(error: psycopg.Error, *, doing: str) -> DatabaseError:
    """The error to raise instead, `from error`; `doing` completes "while ...". A full disk is an outage: what was sent will do later."""
    fault, state, kind = classify(error), error.sqlstate, type(error).__name__
    text = str(error) if fault is Fault.OUTAGE else None  # of a value that is refused PostgreSQL shows the whole row
    get_logger(__name__).warning(
        "database error", doing=doing, fault=fault.value, sqlstate=state, kind=kind, constraint=error.diag.constraint_name, text=text
    )
    if fault is Fault.DISK_FULL:
        return DatabaseUnavailableError(
            f"The disk of the database server was full while {doing}. Free space there; what was accepted is safe.", sqlstate=state
        )
    return told(fault, state, f"{kind}, SQLSTATE {state}" if state else kind, doing=doing)


def is_of_the_data(error: psycopg.Error) -> bool:
    """Whether other values might be taken: it is worth finding out whose are not."""
    state = error.sqlstate
    if state is None:
        return classify(error) is Fault.PERMANENT  # what the driver cannot write down
    return state == _PROTOCOL_VIOLATION or state.startswith(_DATA_CLASSES)
