"""Records from the driver's batches to the bytes of a file."""

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from penstock.errors import InvalidOptionError
from penstock.exports.columns import Column
from penstock.formats.model import Format

__all__ = ["Encoder", "encoder"]


class Encoder(Protocol):
    """One file: `head`, then `encode` of every batch in order, then `tail`; of no batches, a valid file of no records.

    A batch has each of the encoder's columns, by name: STRING, UUID (lower case with hyphens), STRINGS and children (both compact JSON) as
    text, INTEGER as int32, NUMBER as digits in text, BOOLEAN as bool, DATETIME as timestamp[us, UTC].
    """

    @property
    def media_type(self) -> str: ...

    @property
    def ending(self) -> str:
        """Of a file's name, without the dot."""

    def head(self) -> bytes: ...

    def encode(self, batch: pa.RecordBatch) -> bytes | memoryview:
        """Whole records; b"" while an encoder gathers, which only Parquet does (16 MiB at most, and one batch)."""

    def tail(self) -> bytes: ...


def encoder(form: Format, columns: Sequence[Column], *, spreadsheet: bool = False) -> Encoder:
    """Raises InvalidOptionError for a spreadsheet that is no CSV."""
    if spreadsheet and form is not Format.CSV:
        raise InvalidOptionError(f"spreadsheet is for CSV, not for {form.value}", option="spreadsheet")
    match form:
        case Format.CSV:
            from penstock.exports.encoding.csv import CsvEncoder  # noqa: PLC0415 - each form brings what only it needs

            return CsvEncoder(columns, spreadsheet=spreadsheet)
        case Format.NDJSON:
            from penstock.exports.encoding.json import NdjsonEncoder  # noqa: PLC0415

            return NdjsonEncoder(columns)
        case Format.JSON:
            from penstock.exports.encoding.json import JsonEncoder  # noqa: PLC0415

            return JsonEncoder(columns)
        case Format.PARQUET:
            from penstock.exports.encoding.parquet import ParquetEncoder  # noqa: PLC0415 - takes a tenth of a second

            return ParquetEncoder(columns)
