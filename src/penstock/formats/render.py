"""Rejected records, back in their file's own format: as a value for the report, and as a file that a person can mend and send again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, BinaryIO, Protocol

import msgspec
import pyarrow as pa

from penstock.formats.columns import ERRORS_COLUMN, OWN_COLUMNS
from penstock.formats.csv_grammar import cells_of, grammar
from penstock.formats.json_faults import Fault, keys_of, read_object, repeated_key
from penstock.formats.model import Dialect, Format

RAW_KEY = "_raw"  # beside the problems of what is no JSON object
PARQUET_ROWS = 10_000  # rows held before they are written


class RejectedWriter(Protocol):
    def write(self, raw: bytes, errors: str) -> None:
        """`raw` as a reader's `locate` gave it; `errors` in words."""


def record_of(raw: bytes, dialect: Dialect) -> dict[str, Any] | str:
    """The record as read: by column or key, or as text if it is no record. Bytes that are no text show as U+FFFD.

    JSON numbers that no float or 64-bit integer holds are given as their digits.
    """
    text = raw.decode("utf-8", "replace")
    if dialect.format is Format.CSV:
        return _csv_record(text, dialect)
    if not isinstance(whole := _object_of(raw), dict):
        return text
    return {key: _value(value) for key, value in whole.items() if key != ERRORS_COLUMN}


def _csv_record(text: str, dialect: Dialect) -> dict[str, Any] | str:
    cells = cells_of(text.encode(), grammar(dialect.delimiter))
    if cells is None or len(cells) != len(dialect.columns):
        return text
    return {column: cell.decode() for column, (cell, _) in zip(dialect.columns, cells, strict=True) if column and column not in OWN_COLUMNS}


def _object_of(raw: bytes) -> dict[str, msgspec.Raw] | None:
    """None for what is no object, or is one that a dict would lose a part of."""
    whole = read_object(raw)
    if isinstance(whole, Fault):
        return None
    try:
        return None if repeated_key(keys_of(raw)) else whole
    except (RecursionError, UnicodeDecodeError):
        return None


def _value(raw: msgspec.Raw) -> Any:
    return json.loads(bytes(raw), parse_int=_integer, parse_float=_number)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= len("-9223372036854775808") and -(2**63) <= int(digits) < 2**63 else digits


def _number(digits: str) -> float | str:
    value = float(digits)
    try:
        return value if Decimal(repr(value)) == Decimal(digits) else digits
    except ArithmeticError:  # an exponent beyond what decimals hold
        return digits


@contextmanager
def rejected_writer(dialect: Dialect, out: BinaryIO) -> Iterator[RejectedWriter]:
    """UTF-8 but for records that are not (or Parquet), uncompressed. An `_errors` column or key says what was wrong."""
    match dialect.format:
        case Format.CSV:
            yield _CsvWriter(dialect, out)
        case Format.NDJSON:
            yield _NdjsonWriter(out)
        case Format.JSON:
            array = _ArrayWriter(out)
            yield array
            array.finish()
        case Format.PARQUET:
            rows = _ParquetWriter(dialect, out)
            yield rows
            rows.finish()


class _CsvWriter:
    """`_errors` stands first, so that a row with too many or too few cells can follow as it was."""

    def __init__(self, dialect: Dialect, out: BinaryIO) -> None:
        self._out = out
        self._delimiter = dialect.delimiter
        self._line_end = dialect.line_end
        # A file that was mended once has the column already: its old problems leave the front, and elsewhere lose their name.
        self._old = grammar(dialect.delimiter) if dialect.columns[0] == ERRORS_COLUMN else None
        columns = ["" if column == ERRORS_COLUMN else column for column in dialect.columns[1 if self._old else 0 :]]
        self._line(ERRORS_COLUMN, self._delimiter.join(map(self._cell, columns)).encode())

    def write(self, raw: bytes, errors: str) -> None:
        if self._old and (cell := self._old.first.match(raw)):
            raw = raw[cell.end() :]
        # On one line: a raw row with bad quoting costs no more than the line on which its record begins. Bytes that are no text stay as
        # they were: with a mark in their place the record would land damaged if nobody mended it.
        self._line(_quoted(" ".join(errors.split())), raw)

    def _line(self, errors: str, rest: bytes) -> None:
        self._out.write(f"{errors}{self._delimiter}".encode() + rest + self._line_end.encode())

    def _cell(self, text: str) -> str:
        return _quoted(text) if any(mark in text for mark in (self._delimiter, '"', "\r", "\n")) else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


class _NdjsonWriter:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, raw: bytes, errors: str) -> None:
        self._out.write(_marked(raw, errors).replace(b"\n", b" ") + b"\n")


class _ArrayWriter:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._before = b"[\n"

    def write(self, raw: bytes, errors: str) -> None:
        self._out.write(self._before + _marked(raw, errors))
        self._before = b",\n"

    def finish(self) -> None:
        self._out.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


def _marked(raw: bytes, errors: str) -> bytes:
    """The object with its problems; every other value as it stood, digit for digit."""
    whole = _object_of(raw)
    if whole is None:
        return msgspec.json.encode({ERRORS_COLUMN: errors, RAW_KEY: raw.decode("utf-8", "replace")})
    whole.pop(ERRORS_COLUMN, None)
    return msgspec.json.encode({**whole, ERRORS_COLUMN: errors})


class _ParquetWriter:
    """Every column as text, which the next import reads as well as the type it had."""

    def __init__(self, dialect: Dialect, out: BinaryIO) -> None:
        names = [column for column in dialect.columns if column != ERRORS_COLUMN]
        from pyarrow import parquet  # noqa: PLC0415 - costly, and rarely needed

        self._schema = pa.schema([(name, pa.string()) for name in (*names, ERRORS_COLUMN)])
        self._writer = parquet.ParquetWriter(out, self._schema)
        self._rows: list[dict[str, str | None]] = []

    def write(self, raw: bytes, errors: str) -> None:
        self._rows.append({**msgspec.json.decode(raw), ERRORS_COLUMN: errors})
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()

    def finish(self) -> None:
        self._flush()
        self._writer.close()
