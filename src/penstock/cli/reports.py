"""Reports as files: the problems as NDJSON, CSV or JSON, and the records to mend in their own format."""

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from penstock.errors import InvalidOptionError
from penstock.formats.reporting import ReportFormat, encoded

_BY_SUFFIX = {".ndjson": ReportFormat.NDJSON, ".jsonl": ReportFormat.NDJSON, ".csv": ReportFormat.CSV, ".json": ReportFormat.JSON}


def format_of(path: Path) -> ReportFormat:
    """By the file's name. Raises InvalidOptionError."""
    if (form := _BY_SUFFIX.get(path.suffix.lower())) is None:
        raise InvalidOptionError(f"{path}: a report's name ends in {', '.join(_BY_SUFFIX)}", allowed=sorted(_BY_SUFFIX))
    return form


def write_errors(records: Iterable[dict[str, Any]], form: ReportFormat, out: BinaryIO) -> int:
    """Write error records as they come, with flat memory; how many."""
    written = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal written
        for record in records:
            written += 1
            yield record

    out.writelines(encoded(counted(), form))
    return written


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
