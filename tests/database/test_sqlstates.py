"""What an error of the database means follows from its SQLSTATE alone."""

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolTimeout

from penstock.database.sqlstates import Fault, classify, is_conflict, is_disk_full, is_outage, is_unique_violation, translate
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError

CONFLICTS = ["40001", "40P01", "55P03"]
OUTAGES = ["08000", "08003", "08006", "57P01", "57P02", "57P03", "53300", "53200", "25P03", "25006"]
PERMANENT = ["23505", "23503", "42501", "42P01", "22P02", "57014", "0A000"]


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        *((state, Fault.CONFLICT) for state in CONFLICTS),
        *((state, Fault.OUTAGE) for state in OUTAGES),
        ("53100", Fault.DISK_FULL),
        *((state, Fault.PERMANENT) for state in PERMANENT),
    ],
)
def test_a_state_is_one_fault(state: str, fault: Fault) -> None:
    """And the predicates agree with it."""
    error = errors.lookup(state)("text")
    assert classify(error) is fault
    found = (is_conflict(error), is_outage(error), is_disk_full(error))
    assert found == (fault is Fault.CONFLICT, fault is Fault.OUTAGE, fault is Fault.DISK_FULL)


def test_a_unique_violation_is_a_conflict_only_where_asked() -> None:
    """The caller knows whether somebody else's insert is a reason to look again."""
    error = errors.UniqueViolation("text")
    assert not is_conflict(error)
    assert is_conflict(error, unique_is_conflict=True)
    assert is_unique_violation(error)
    assert not is_unique_violation(errors.ForeignKeyViolation("text"))


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("server closed"), psycopg.InterfaceError("the connection is closed"), PoolTimeout("x")]
)
def test_an_error_without_a_state_is_an_outage(error: psycopg.Error) -> None:
    """A lost connection has no SQLSTATE."""
    assert is_outage(error)


def test_a_mistake_of_the_program_is_no_outage() -> None:
    """A wrong number of parameters has no SQLSTATE either, and waiting does not mend it."""
    assert classify(psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed")) is Fault.PERMANENT
    assert not is_outage(ValueError())


def test_what_is_raised_instead_never_quotes_the_driver(capfd: pytest.CaptureFixture[str]) -> None:
    """The text of the driver may hold a row; the message names the state and what to do, the log has the text without the row."""
    for state, kind in (("08006", DatabaseUnavailableError), ("40P01", DatabaseUnavailableError), ("53100", DatabaseRefusedError)):
        raised = translate(errors.lookup(state)("driver text\nDETAIL: Key (email)=(a@b.c)"), doing="merging")
        assert type(raised) is kind
        assert "driver text" not in raised.message
        assert "merging" in raised.message
        assert raised.details == {"sqlstate": state}
    assert "The disk of the database server is full" in raised.message
    logged = capfd.readouterr().err
    assert "driver text" in logged
    assert "a@b.c" not in logged
