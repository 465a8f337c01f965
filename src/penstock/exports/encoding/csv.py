"""Records as CSV."""

from collections.abc import Sequence
from io import BytesIO

import polars as pl
import pyarrow as pa

from penstock.exports.columns import Column
from penstock.exports.encoding.texts import texts_of, type_of
from penstock.formats.csv_guard import SPREADSHEET_COLUMN, guarded
from penstock.resources.model import FieldType

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # without it, Excel reads UTF-8 as an old code page
# Not empty: of a last column whose cells are, Excel leaves out the separators when it saves the file, and the rows come back too short.
_MARKER_CELL = "1"


class CsvEncoder:
    """A header, lines that end with LF, quotes where they are needed. No value is an empty cell, the empty text `""`.

    Of one column alone, a record without a value is a blank line, which CSV readers pass over; PostgreSQL writes the same.
    """

    media_type = "text/csv"
    ending = "csv"

    def __init__(self, columns: Sequence[Column], *, spreadsheet: bool) -> None:
        self._columns = columns
        self._spreadsheet = spreadsheet
        texts = [column.name for column in columns if type_of(column) is FieldType.STRING] if spreadsheet else []
        self._changes = [guarded(pl.col(name)) for name in texts]
        if spreadsheet:
            self._changes.append(pl.lit(_MARKER_CELL, dtype=pl.String).alias(SPREADSHEET_COLUMN))

    def head(self) -> bytes:
        names = [column.name for column in self._columns] + [SPREADSHEET_COLUMN] * self._spreadsheet
        header = pl.DataFrame(schema=dict.fromkeys(names, pl.String)).write_csv().encode()
        return _BYTE_ORDER_MARK + header if self._spreadsheet else header

    def encode(self, batch: pa.RecordBatch) -> memoryview:
        frame = texts_of(batch, self._columns)
        if self._changes:
            frame = frame.with_columns(self._changes)
        out = BytesIO()
        frame.write_csv(out, include_header=False)
        return out.getbuffer()

    def tail(self) -> bytes:
        return b""
