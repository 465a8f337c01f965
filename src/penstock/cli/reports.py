"""Reports as files: the problems as NDJSON, CSV or JSON, and the records to mend in their own format."""

import csv
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from penstock.errors import InvalidOptionError

COLUMNS = ("row", "line", "type", "code", "field", "value", "message", "record")


class ReportFormat(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"
    JSON = "json"


_BY_SUFFIX = {".ndjson": ReportFormat.NDJSON, ".jsonl": ReportFormat.NDJSON, ".csv": ReportFormat.CSV, ".json": ReportFormat.JSON}


def format_of(path: Path) -> ReportFormat:
    """By the file's name. Raises InvalidOptionError."""
    if (form := _BY_SUFFIX.get(path.suffix.lower())) is None:
        raise InvalidOptionError(f"{path}: a report's name ends in {', '.join(_BY_SUFFIX)}", allowed=sorted(_BY_SUFFIX))
    return form


def write_errors(records: Iterable[dict[str, Any]], form: ReportFormat, out: BinaryIO) -> int:
    """Write error records as they come, with flat memory; how many."""
    return {ReportFormat.NDJSON: _ndjson, ReportFormat.JSON: _json, ReportFormat.CSV: _csv}[form](records, out)


def _ndjson(records: Iterable[dict[str, Any]], out: BinaryIO) -> int:
    written = 0
    for record in records:
        out.write(msgspec.json.encode(record) + b"\n")
        written += 1
    return written


def _json(records: Iterable[dict[str, Any]], out: BinaryIO) -> int:
    written = 0
    out.write(b"[")
    for written, record in enumerate(records, 1):
        out.write((b",\n" if written > 1 else b"\n") + msgspec.json.encode(record))
    out.write(b"\n]\n" if written else b"]\n")
    return written


def _csv(records: Iterable[dict[str, Any]], out: BinaryIO) -> int:
    """RFC 4180, UTF-8. The record is a cell of JSON; no value is an empty cell."""
    text = io.TextIOWrapper(out, encoding="utf-8", errors="backslashreplace", newline="", write_through=False)
    written = 0
    try:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for record in records:
            writer.writerow([_cell(name, record.get(name)) for name in COLUMNS])
            written += 1
        text.flush()
    finally:
        text.detach()  # the stream is the caller's to close
    return written


def _cell(name: str, value: Any) -> Any:
    if name == "record" or isinstance(value, dict | list | bool):
        return msgspec.json.encode(value).decode()
    return value


def check_target(option: str, path: Path, sources: Iterable[str] = ()) -> None:
    """Refuse, before anything is imported, a file that cannot be written afterwards. Raises InvalidOptionError."""
    if path.is_dir():
        raise InvalidOptionError(f"{option}: {path} is a folder")
    if not path.absolute().parent.is_dir():
        raise InvalidOptionError(f"{option}: there is no folder {path.absolute().parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InvalidOptionError(f"{option}: {path} may not be written")
    if any(Path(source).exists() and path.exists() and path.samefile(source) for source in sources):
        raise InvalidOptionError(f"{option}: {path} is the file to import, and would be overwritten")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """The file to write; it takes its name only when it is whole, so that a reader never meets half a report.

    What is no regular file (a pipe, /dev/stdout) is written as it is.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with path.open("wb") as out:
            yield out
        return
    target = path.resolve()  # a link stays a link
    part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as out:
            yield out
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def numbered(path: Path, number: int, of: int) -> Path:
    """The report's name for the `number`-th of several files: `errors.csv` becomes `errors-2.csv`."""
    return path if of == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def save(path: Path, write: Callable[[BinaryIO], int]) -> int:
    with replacing(path) as out:
        return write(out)
