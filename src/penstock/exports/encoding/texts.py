"""A batch from the driver as columns that the text formats write."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from penstock.exports.columns import Column
from penstock.exports.encoding.moments import iso_text
from penstock.resources.arrow import ArrowArray
from penstock.resources.model import FieldType


def type_of(column: Column) -> FieldType | None:
    """None: a list of children."""
    return column.field.type if column.field else None


def texts_of(batch: pa.RecordBatch, columns: Sequence[Column]) -> pl.DataFrame:
    """INTEGER and BOOLEAN as they are, all others as String: numbers as their digits, STRINGS and children as JSON."""
    return pl.DataFrame({column.name: _texts(batch.column(column.name), type_of(column)) for column in columns})


def _texts(values: pa.Array, kind: FieldType | None) -> pl.Series:
    series = pl.Series(ArrowArray(values))
    return iso_text(series) if kind is FieldType.DATETIME else series


def bytes_of(texts: pl.Series) -> memoryview:
    """Texts without nulls as they lie in memory, end to end."""
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not len(array):
        return memoryview(b"")
    _, offsets, data = array.buffers()
    ends = memoryview(offsets).cast("q")
    return memoryview(data)[ends[array.offset] : ends[array.offset + len(array)]]
