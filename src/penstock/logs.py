"""Log lines: to standard error, for people or as JSON, with their request and job; never a secret, never a record's value.

Code logs facts by name (`log.info("wave merged", wave=3, rows=50000)`), never records. What slips through is caught here: values
under the names of secrets or records are masked, and so are passwords in connection strings and what PostgreSQL quotes of a row; control
characters are escaped, so that a file name cannot forge a line.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from penstock.settings import LogFormat, LogLevel

MASK = "***"
_MASKED_NAMES = re.compile(r"(?i)password|secret|token|authorization|api_?key|conninfo|^(dsn|cookie|records?|values?)$")
_IN_URL = re.compile(r"(\w://[^\s:/@]*:)[^\s@]*@")
_IN_CONNINFO = re.compile(r"(?i)\b(password|passwd)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)")
_QUOTED_ROW = re.compile(r"(?m)^(DETAIL|CONTEXT): .*$")  # psycopg's errors end with the key or cell that PostgreSQL stumbled on
# Controls, line separators and the marks that turn the direction of writing; a traceback keeps its line feeds and tabs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_UNSAFE_IN_TRACE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# httpx logs whole URLs, and a signed link is a secret.
_QUIET = ("asyncio", "httpcore", "httpx", "procrastinate", "urllib3", "psycopg.pool")


def configure_logs(level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.CONSOLE) -> None:
    """Set up logging for the process; may be called again. The standard library's loggers and warnings take the same road."""
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_facts(), structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask,
                _renderer(form),
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _StandardError)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.value)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    # For libraries that ask structlog for a logger; without this they would write to standard output.
    structlog.configure(
        processors=_processors(),
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger by its module's name. It writes through the standard library, so that nothing reaches standard output, configured or not."""
    logger = structlog.wrap_logger(logging.getLogger(name), processors=_processors(), wrapper_class=structlog.stdlib.BoundLogger)
    return cast("structlog.stdlib.BoundLogger", logger)


@contextmanager
def log_context(**facts: str | None) -> Iterator[None]:
    """Add facts (`request_id`, `job_id`) to every line logged inside. Threads started inside need `contextvars.copy_context().run`."""
    with structlog.contextvars.bound_contextvars(**{name: fact for name, fact in facts.items() if fact is not None}):
        yield


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that keeps secrets, records and control characters out of a line."""
    return {name: _masked(name, value) for name, value in event.items()}


def _facts() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]


def _processors() -> list[Processor]:
    return [structlog.stdlib.filter_by_level, *_facts(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter]


def _masked(name: str, value: Any) -> Any:
    if _MASKED_NAMES.search(name) and value is not None and not isinstance(value, bool | int):
        return MASK
    if isinstance(value, str):
        unsafe = _UNSAFE_IN_TRACE if name in ("exception", "stack") else _UNSAFE
        return unsafe.sub(lambda found: found[0].encode("unicode_escape").decode(), _without_secrets(value))
    if isinstance(value, Mapping):
        return {key: _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked("", inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else _masked("", str(value))


def _without_secrets(text: str) -> str:
    text = _IN_CONNINFO.sub(rf"\1={MASK}", _IN_URL.sub(rf"\g<1>{MASK}@", text))
    return _QUOTED_ROW.sub(rf"\1: {MASK}", text)


def _renderer(form: LogFormat) -> Processor:
    if form is LogFormat.JSON:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    # The renderer's own tracebacks show local variables, and with them records.
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


class _StandardError(logging.StreamHandler[TextIO]):
    """Standard error as it is when a line is written: what stood there at the start may be replaced or closed since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        raise NotImplementedError("the stream is always standard error")
