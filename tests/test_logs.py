"""Log lines: on standard error only, with their request and job, without secrets, records or forged lines."""

import json
import logging

import pytest

from penstock.logs import MASK, configure_logs, get_logger, log_context
from penstock.settings import LogFormat, LogLevel

SECRET = "hunter2"  # by name, so that the lines of code in a traceback do not hold it


@pytest.fixture(autouse=True)
def logs_as_before() -> object:
    yield
    configure_logs()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_a_line_knows_its_request_and_job(capsys: pytest.CaptureFixture[str]) -> None:
    """Inside the context, and not after it; the standard library's loggers too."""
    configure_logs(LogLevel.INFO, LogFormat.JSON)
    with log_context(request_id="r1", job_id="j1"):
        get_logger("penstock.x").info("wave merged", rows=5)
        logging.getLogger("library").warning("said %s", "this")
    get_logger("penstock.x").info("after")
    first, second, after = lines(capsys)
    assert first | {"timestamp": ""} == {
        "event": "wave merged",
        "rows": 5,
        "request_id": "r1",
        "job_id": "j1",
        "level": "info",
        "logger": "penstock.x",
        "timestamp": "",
    }
    assert (second["event"], second["job_id"]) == ("said this", "j1")
    assert "job_id" not in after


def test_the_level_holds_back_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """For ours and for libraries."""
    configure_logs(LogLevel.WARNING, LogFormat.JSON)
    get_logger("penstock.x").info("no")
    logging.getLogger("library").info("no")
    get_logger("penstock.x").warning("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


def fail(secret: str) -> None:
    """With the secret in a local variable, which a traceback must not show, and in the message."""
    raise ValueError(f"connecting with password={secret}\nDETAIL: Key (email)=({secret}) exists.")


@pytest.mark.parametrize("form", LogFormat)
def test_secrets_and_records_are_masked(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, in connection strings, in nested values, in tracebacks, and in what PostgreSQL quotes of a row."""
    configure_logs(LogLevel.INFO, form)
    log = get_logger("penstock.x")
    log.info("a", password="hunter2", conninfo="hunter2", record={"email": "hunter2"}, nested=[{"token": "hunter2"}], value="hunter2")
    log.info("b", url="postgresql://me:hunter2@host/db", text="host=h password='hunter2' user=me")
    try:
        fail(SECRET)
    except ValueError:
        log.exception("c")
    out, err = capsys.readouterr()
    assert out == ""
    assert "hunter2" not in err
    assert MASK in err
    assert "ValueError" in err


@pytest.mark.parametrize("form", LogFormat)
def test_a_value_cannot_forge_a_line(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    """Line feeds, terminal escapes and marks of direction are escaped, in the event too."""
    configure_logs(LogLevel.INFO, form)
    get_logger("penstock.x").info("file\nforged", name="a\r\n2026 [error] forged\x1b[31m\u202e")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert not any(mark in err for mark in ("\r", "\x1b", "\u202e"))


def test_before_it_is_configured_nothing_reaches_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for results, also when Penstock is used as a library."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        get_logger("penstock.x").warning("early")
    finally:
        root.handlers = handlers
    assert capsys.readouterr().out == ""
