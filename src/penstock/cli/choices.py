"""The files that were named, looked at before anything is imported."""

import os
from collections.abc import Iterable
from pathlib import Path

from penstock.cli.spool import is_pipe
from penstock.errors import InvalidSourceError

STANDARD_INPUT = "-"


def check_files(files: Iterable[str]) -> None:
    """Refuse, before anything is imported, what cannot be read. Raises InvalidSourceError."""
    files = list(files)
    if files.count(STANDARD_INPUT) > 1:
        raise InvalidSourceError("standard input (-) can be imported once")
    for name in files:
        if name != STANDARD_INPUT:
            _check_file(name)


def _check_file(name: str) -> None:
    path = Path(name)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidSourceError(
            f"{os.fsencode(name)!r}: the file's name is not UTF-8; rename it, or pass the file to standard input"
        ) from None
    if not path.exists():
        raise InvalidSourceError(f"{name}: there is no such file")
    if path.is_dir():
        raise InvalidSourceError(f"{name} is a folder; name the files in it, such as {name.rstrip('/')}/*.csv")
    if not is_pipe(name) and not os.access(path, os.R_OK):
        raise InvalidSourceError(f"{name} may not be read by this user")
