"""Records as Parquet, with the types that their fields have."""

from collections.abc import Sequence

import pyarrow as pa
from pyarrow import parquet

from penstock.exports.columns import Column
from penstock.exports.encoding.typed import array_type, typed
from penstock.resources.model import FieldType

ROW_GROUP_BYTES = 16 * 1024 * 1024  # of Arrow; a batch larger than that is a row group of its own


class _Taken:
    """A file to write to, whose bytes are taken away piece by piece. It knows its place, from which the footer counts."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class ParquetEncoder:
    """Row groups of about 16 MiB of Arrow, pages compressed with zstd. Raises UnexportableValueError for what no type there holds."""

    media_type = "application/vnd.apache.parquet"
    ending = "parquet"

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = pa.schema([pa.field(column.name, array_type(column)) for column in columns])
        self._out = _Taken()
        self._writer = parquet.ParquetWriter(
            self._out,
            self._schema,
            compression="zstd",
            use_dictionary=[name for column in columns if (name := _repeating(column))],
        )
        self._held: list[pa.RecordBatch] = []

    def head(self) -> bytes:
        return self._out.take()

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """b"" while a row group is gathered."""
        self._held.append(pa.RecordBatch.from_arrays([typed(batch, column) for column in self._columns], schema=self._schema))
        if sum(held.nbytes for held in self._held) >= ROW_GROUP_BYTES:
            self._write()
        return self._out.take()

    def tail(self) -> bytes:
        self._write()
        self._writer.close()
        return self._out.take()

    def _write(self) -> None:
        table = pa.Table.from_batches(self._held, self._schema)
        self._held.clear()
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)


def _repeating(column: Column) -> str | None:
    """The name of a column whose values may come again; ids never do, and a dictionary of them is made in vain."""
    return None if column.field and column.field.type is FieldType.UUID else column.name
