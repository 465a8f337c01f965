"""Parquet as a `Reader`: row groups in batches, each value as text. A position counts rows; there are no lines."""

import os
import tempfile
from collections.abc import Iterator
from functools import partial

import msgspec
import polars as pl
import pyarrow as pa
from pyarrow import parquet

from penstock.errors import TruncatedFileError
from penstock.formats import sniff
from penstock.formats.model import Chunk, Compression, Dialect, Parsed, Position, RawRecord, ReadOptions
from penstock.formats.parquet_text import text_of
from penstock.resources.problems import Kind, Problem
from penstock.sources.compression import READ_BYTES, decompressed
from penstock.sources.model import Source

_FAULTS = (pa.ArrowException, OSError)


def open_parquet(source: Source, compression: Compression) -> parquet.ParquetFile:
    """Raises UnknownFormatError for what is no Parquet, TruncatedFileError for one without its end."""
    path = source.local_path()
    unpacked = path is None or compression is not Compression.NONE
    place = _unpack(source, compression) if unpacked else str(path)
    try:
        file = pa.OSFile(place)
    finally:
        if unpacked:
            os.unlink(place)  # noqa: PTH108 - a name from mkstemp; the open file lives on without it
    edges = file.read_at(4, 0), file.read_at(4, max(0, file.size() - 4))
    if edges[0] != sniff.PARQUET_MAGIC:
        raise sniff.unknown(f"{source.name} is not a Parquet file")
    if edges[1] != sniff.PARQUET_MAGIC:
        raise TruncatedFileError(f"{source.name} is a Parquet file without its end: it was cut off")
    try:
        # Without pre_buffer a row group is read page by page and never held as a whole.
        opened = parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
        opened.schema_arrow  # noqa: B018 - made on first use; a type that Arrow does not know shows here
    except _FAULTS as fault:
        raise sniff.unknown(f"{source.name} is damaged or uses what cannot be read: {_first_line(fault)}") from fault
    return opened


def _unpack(source: Source, compression: Compression) -> str:
    handle, place = tempfile.mkstemp(prefix="penstock-", suffix=".parquet")
    try:
        stream = decompressed(source.open(), compression)
        try:
            with os.fdopen(handle, "wb") as out:
                while block := stream.read(READ_BYTES):
                    out.write(block)
        finally:
            stream.close()
    except BaseException:
        os.unlink(place)  # noqa: PTH108 - as above
        raise
    return place


class ParquetReader:
    def __init__(self, file: parquet.ParquetFile, dialect: Dialect, options: ReadOptions) -> None:
        self.dialect = dialect
        self._file = file
        self._options = options
        self._fields = {column: dialect.fields[column] for column in dialect.columns if column in dialect.fields}

    def chunks(self, start: Position) -> Iterator[Chunk]:
        offset, row, passed = start.offset, start.row, 0
        for group in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if passed + rows > offset:
                for table in self._batches(group, offset - passed):
                    begin = Position(offset=offset, row=row, line=0)
                    offset, row = offset + table.num_rows, row + table.num_rows
                    yield Chunk(start=begin, end=Position(offset=offset, row=row, line=0), data=table)
            passed += rows

    def _batches(self, group: int, skipped: int) -> Iterator[pa.Table]:
        about = self._file.metadata.row_group(group)
        size = max(1, min(about.num_rows, self._options.chunk_bytes * about.num_rows // max(1, about.total_byte_size)))
        left = about.num_rows
        try:
            for batch in self._file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                left -= batch.num_rows
                kept = batch.slice(min(skipped, batch.num_rows))
                skipped -= batch.num_rows - kept.num_rows
                if kept.num_rows:
                    yield pa.Table.from_batches([kept]).rename_columns(list(self.dialect.columns))  # as they are shown
        except _FAULTS as fault:
            raise _unreadable(group, _first_line(fault)) from fault
        if left:
            raise _unreadable(group, f"{left} rows are missing")

    def parse(self, chunk: Chunk) -> Parsed:
        table: pa.Table = chunk.data
        first, count = chunk.start.row, table.num_rows
        broken: dict[int, Problem] = {}
        columns = [pl.int_range(first, first + count, dtype=pl.Int64, eager=True).alias("row")]
        for column, field in self._fields.items():
            series, undecodable = text_of(table.column(column))
            columns.append(series.alias(field))
            for place in undecodable:
                broken[first + place] = Problem(row=first + place, kind=Kind.INVALID_ENCODING, detail="UTF-8", field=None)
        frame = pl.DataFrame(columns)
        broken |= self._too_large(frame, table.nbytes)
        if broken:
            frame = frame.filter(~pl.col("row").is_in(list(broken)))
        return Parsed(
            first_row=first,
            records=count,
            frame=frame,
            broken=[problem for _, problem in sorted(broken.items())],
            wrong=[],
            locate=partial(_locate, table, first),
        )

    def _too_large(self, frame: pl.DataFrame, size: int) -> dict[int, Problem]:
        limit = self._options.max_record_bytes
        if size <= limit:
            return {}
        sizes = pl.sum_horizontal(pl.col(name).str.len_bytes() for name in frame.columns if name != "row")
        rows = frame.filter(sizes > limit)["row"].to_list()
        return {row: Problem(row=row, kind=Kind.RECORD_TOO_LARGE, detail=str(limit)) for row in rows}


def _locate(table: pa.Table, first: int, rows: list[int]) -> list[RawRecord]:
    """A Parquet record has no bytes of its own; it is shown as a JSON object of the texts of all its columns."""
    taken = table.take(pa.array([row - first for row in rows], pa.int64()))
    columns = {name: text_of(taken.column(name))[0].to_list() for name in table.column_names}
    records = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return [RawRecord(row=row, line=None, raw=msgspec.json.encode(record)) for row, record in zip(rows, records, strict=True)]


def _unreadable(group: int, reason: str) -> TruncatedFileError:
    return TruncatedFileError(f"row group {group + 1} of the Parquet file cannot be read: {reason}", row_group=group + 1)


def _first_line(fault: Exception) -> str:
    return str(fault).partition("\n")[0]
