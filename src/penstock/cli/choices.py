"""What was typed, as the services want it. Every fault is an InvalidOptionError that names the option and what is allowed."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from penstock.cli.spool import is_pipe
from penstock.errors import InvalidOptionError, InvalidSourceError

STANDARD_INPUT = "-"
_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


def mapping_of(given: Iterable[str]) -> dict[str, str]:
    """`column=field`, repeated, or one JSON object. The last `=` divides: a column may contain one, a field's name cannot."""
    result: dict[str, str] = {}
    for text in given:
        for column, field in _pairs(text).items():
            if result.setdefault(column, field) != field:
                raise InvalidOptionError(f"--mapping: column {column!r} is mapped twice, to {result[column]!r} and to {field!r}")
    return result


def _pairs(text: str) -> Mapping[str, str]:
    if text.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(text, type=dict[str, str])
        except msgspec.DecodeError as error:
            raise InvalidOptionError(f"--mapping: not a JSON object of texts: {error}") from error
    column, equals, field = text.rpartition("=")
    if not (equals and column and field):
        raise InvalidOptionError(f"--mapping: {text!r} must be column=field, or a JSON object such as " + '{"Mail": "email"}')
    return {column: field}


def null_values_of(given: Iterable[str] | None) -> tuple[str, ...]:
    """Repeated, or a list with commas: `NULL,` means NULL and the empty cell."""
    if not given:
        return ("",)
    return tuple(dict.fromkeys(value for text in given for value in text.split(",")))


def delimiter_of(given: str | None) -> str | None:
    if given is None:
        return None
    delimiter = _DELIMITERS.get(given.lower(), given)
    if len(delimiter) != 1:
        raise InvalidOptionError(
            f"--delimiter: {given!r} must be one character, or one of {', '.join(n for n in _DELIMITERS if n.isalpha())}"
        )
    return delimiter


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
