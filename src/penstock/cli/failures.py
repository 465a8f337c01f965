"""What a person and a machine are told when a command fails, and the exit status.

Exit status: 0 all landed, 1 failed, 2 usage, 3 finished with rejected records, 130 interrupted or cancelled.
"""

import os
import sys
import traceback
from typing import Any

import typer

from penstock.cli.options import refused
from penstock.cli.session import Session
from penstock.cli.terminal import clean, safe
from penstock.errors import CancelledError, PenstockError

LANDED, FAILED, USAGE, REJECTED, INTERRUPTED = 0, 1, 2, 3, 130
_FROM_GOOD_TO_WORST = (LANDED, REJECTED, USAGE, FAILED, INTERRUPTED)


def worst(*statuses: int) -> int:
    return max(statuses, key=_FROM_GOOD_TO_WORST.index, default=LANDED)


def exit_status(error: PenstockError) -> int:
    return INTERRUPTED if isinstance(error, CancelledError) else error.exit_code


def problem(code: str, message: str, *, status: int = 500, details: Any = None) -> dict[str, Any]:
    """The problem object of the API (RFC 9457), for `--json`."""
    title = code.replace("_", " ").capitalize()
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": message,
        "error": {"code": code, "message": message, "details": details or {}},
    }


def print_json(value: Any, *, to_stderr: bool = False) -> None:
    """One JSON document on one line of standard output, or of standard error."""
    import msgspec  # noqa: PLC0415 - not needed for --help

    stream = sys.stderr if to_stderr else sys.stdout
    stream.flush()
    line = msgspec.json.encode(value, enc_hook=str) + b"\n"
    stream.buffer.write(line)
    stream.buffer.flush()


def report(session: Session, code: str, message: str, *, status: int = 500, details: Any = None) -> None:
    if session.as_json:
        print_json(problem(code, clean_lines(message), status=status, details=details), to_stderr=session.data_on_out)
        return
    first, *more = message.splitlines() or [""]
    session.err.print(safe("error: ", "bold red") + safe(f"{first} ") + safe(f"({code})", "dim"), soft_wrap=True)
    for line in more:
        session.err.print(safe(line), soft_wrap=True)


def clean_lines(text: str) -> str:
    """Harmless text that may have several lines; JSON escapes controls, but not halves of surrogate pairs."""
    return "\n".join(clean(line) for line in text.splitlines())


def failed(session: Session, error: BaseException) -> int:
    """Tell what went wrong and give the exit status. Anything that is no error of ours is told with the way to its traceback."""
    if session.wants_traceback and not isinstance(error, typer.TyperException | KeyboardInterrupt):
        traceback.print_exception(error)
    if isinstance(error, PenstockError):
        report(session, error.code, error.message, status=error.http_status, details=error.details)
        return exit_status(error)
    if isinstance(error, typer.TyperException):
        return _usage(session, error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        report(session, "cancelled", "interrupted", status=409)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _close_quietly()
        return FAILED
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        report(session, "io_error", f"{where}{error.strerror}")
        return FAILED
    hint = "" if session.wants_traceback else "\nSet PENSTOCK_TRACEBACK=1 (or give --log-level debug) and run it again to see where."
    report(session, "internal_error", f"something unexpected happened: {type(error).__name__}: {clean(error, 300)}{hint}")
    return FAILED


def _usage(session: Session, error: typer.TyperException) -> int:
    if getattr(error, "option_name", None) == "--server":
        return failed(session, refused(_command_of(error)))
    if session.as_json or not hasattr(error, "show"):
        report(session, "invalid_request", error.format_message(), status=400)
    else:
        error.show()
    return error.exit_code


def _command_of(error: typer.TyperException) -> str | None:
    return getattr(getattr(error, "ctx", None), "info_name", None)


def _close_quietly() -> None:
    """The reader of our output went away (`| head`): let the interpreter's last flush go nowhere instead of raising again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
