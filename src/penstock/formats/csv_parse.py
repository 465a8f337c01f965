"""A CSV chunk as columns of text: by pyarrow's reader, or, where a record is not well-formed, after the strict scan."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl
import pyarrow as pa
from pyarrow import csv

from penstock.formats.csv_cut import index_records, quotes_obey
from penstock.formats.csv_grammar import Grammar, Span, cells_of, scan_chunk
from penstock.formats.csv_guard import unguarded
from penstock.formats.model import Chunk, Parsed, RawRecord, RejectedChunk
from penstock.formats.rejection import rejected
from penstock.formats.vector import is_utf8, line_count, utf8_fault
from penstock.resources.problems import Kind, Problem


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of a file are. pyarrow wants names that are all different, so a column is called by its place."""

    rules: Grammar
    delimiter: str
    columns: tuple[str, ...]
    fields: Mapping[int, str]  # place of a column -> field
    guarded: tuple[str, ...]  # fields whose cells are guarded for a spreadsheet
    null_values: tuple[str, ...]
    encoding: str
    max_record_bytes: int

    @property
    def schema(self) -> pl.Schema:
        return pl.Schema([("row", pl.Int64()), *((name, pl.String()) for name in self.fields.values())])


@dataclass(frozen=True, slots=True)
class Cells:
    """Columns of the records that have the right number of cells. `ragged`: how many the others have, by record counted from 0."""

    frame: pl.DataFrame
    ragged: Mapping[int, int]


def parse_csv(chunk: Chunk, layout: Layout) -> Parsed:
    if isinstance(chunk, RejectedChunk):
        return rejected(chunk, layout.schema)
    data: bytes = chunk.data
    records = chunk.end.row - chunk.start.row
    whole = len(data) <= layout.max_record_bytes and is_utf8(data) and quotes_obey(data, layout.rules)
    cells = _read(data, records, layout) if whole else None
    if cells is None:
        return _parse_scanned(chunk, layout)
    broken = [_ragged(chunk.start.row + index, found, layout) for index, found in cells.ragged.items()]
    rows = pl.int_range(chunk.start.row, chunk.end.row, dtype=pl.Int64, eager=True).alias("row")
    if broken:
        rows = rows.filter(~rows.is_in([problem.row for problem in broken]))
    return _parsed(chunk, cells.frame, rows, broken, layout)


def _parse_scanned(chunk: Chunk, layout: Layout) -> Parsed:
    """Record by record where it must be: the bad ones are named and the good ones still go through pyarrow, in one call."""
    data: bytes = chunk.data
    spans = scan_chunk(data, layout.rules)
    assert len(spans) == chunk.end.row - chunk.start.row, "the cutter and the parser disagree about a chunk's records"
    broken, good = [], []
    for index, span in enumerate(spans):
        problem = _problem(data, span, chunk.start.row + index, layout)
        if problem:
            broken.append(problem)
        else:
            good.append(index)
    text = b"\n".join([data[spans[index].start : spans[index].end] for index in good])
    cells = _read(text, len(good), layout) or _read_plainly(text, layout)
    broken += [_ragged(chunk.start.row + good[index], found, layout) for index, found in cells.ragged.items()]
    kept = [chunk.start.row + row for index, row in enumerate(good) if index not in cells.ragged]
    broken.sort(key=lambda problem: problem.row)
    return _parsed(chunk, cells.frame, pl.Series("row", kept, dtype=pl.Int64), broken, layout)


def _parsed(chunk: Chunk, frame: pl.DataFrame, rows: pl.Series, broken: list[Problem], layout: Layout) -> Parsed:
    if layout.guarded:
        frame = frame.with_columns(unguarded(pl.col(name)) for name in layout.guarded)
    return Parsed(
        first_row=chunk.start.row,
        records=chunk.end.row - chunk.start.row,
        frame=frame.insert_column(0, rows),
        broken=broken,
        wrong=[],
        locate=partial(_locate, chunk, layout.rules),
    )


def _problem(data: bytes, span: Span, row: int, layout: Layout) -> Problem | None:
    if span.end - span.start > layout.max_record_bytes:
        return Problem(row=row, kind=Kind.RECORD_TOO_LARGE, detail=str(layout.max_record_bytes))
    record = data[span.start : span.end]
    if not is_utf8(record):
        return Problem(row=row, kind=Kind.INVALID_ENCODING, detail=utf8_fault(record, layout.encoding))
    return Problem(row=row, kind=Kind.MALFORMED_ROW, detail=span.fault) if span.fault else None


def _ragged(row: int, found: int, layout: Layout) -> Problem:
    return Problem(row=row, kind=Kind.MALFORMED_ROW, detail=f"expected {len(layout.columns)} cells, found {found}")


def _read(data: bytes, records: int, layout: Layout) -> Cells | None:
    """Whole, well-quoted records in UTF-8; None if pyarrow does not count `records` of them."""
    ragged: dict[int, int] = {}

    def skip(row: csv.InvalidRow) -> str:
        ragged[row.number - 1] = row.actual_columns
        return "skip"

    if not records:
        return Cells(_no_cells(layout), ragged)
    places = {str(place): field for place, field in layout.fields.items()}
    table = csv.read_csv(
        pa.BufferReader(data),
        # Rows are numbered only without threads, and one block must hold them all.
        read_options=csv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=[str(n) for n in range(len(layout.columns))]
        ),
        parse_options=csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=b'"' in data, invalid_row_handler=skip),
        convert_options=csv.ConvertOptions(
            check_utf8=False,  # done for the whole chunk already, columns that are left out too
            include_columns=list(places),
            column_types=dict.fromkeys(places, pa.string()),
            null_values=list(layout.null_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    if table.num_rows + len(ragged) != records:
        return None
    frame = pl.from_arrow(table.rename_columns(list(places.values())))
    assert isinstance(frame, pl.DataFrame)
    return Cells(frame, ragged)


def _read_plainly(data: bytes, layout: Layout) -> Cells:
    """The same cell by cell, should pyarrow ever see other records than the grammar does."""
    nulls = {value.encode() for value in layout.null_values}
    columns: dict[str, list[str | None]] = {field: [] for field in layout.fields.values()}
    ragged = {}
    for index, span in enumerate(scan_chunk(data, layout.rules)):
        cells = cells_of(data[span.start : span.end], layout.rules) or []
        if len(cells) != len(layout.columns):
            ragged[index] = len(cells)
            continue
        for place, field in layout.fields.items():
            text, quoted = cells[place]
            columns[field].append(None if text in nulls and not quoted else text.decode())
    return Cells(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String())), ragged)


def _no_cells(layout: Layout) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(layout.fields.values(), pl.String()))


def _locate(chunk: Chunk, rules: Grammar, rows: list[int]) -> list[RawRecord]:
    """Among many good records a few bad ones: all positions are found at once, and no line is counted twice."""
    data: bytes = chunk.data
    if b'"' not in data and b"\r" not in data:
        records, first = data.removesuffix(b"\n").split(b"\n"), chunk.start.row
        if len(records) == chunk.end.row - first:  # no line is blank: each is a record
            return [RawRecord(row=row, line=chunk.start.line + row - first, raw=records[row - first]) for row in rows]
    index = index_records(data, rules)
    if index is None:
        return _locate_by_scan(chunk, rules, rows)
    places = [row - chunk.start.row for row in rows]
    starts, ends = index.starts.gather(places), index.ends.gather(places)
    lines = (index.line_ends.search_sorted(starts) + chunk.start.line).to_list()
    spans = zip(rows, lines, starts.to_list(), ends.to_list(), strict=True)
    return [RawRecord(row=row, line=line, raw=data[start:end]) for row, line, start, end in spans]


def _locate_by_scan(chunk: Chunk, rules: Grammar, rows: list[int]) -> list[RawRecord]:
    data: bytes = chunk.data
    spans = scan_chunk(data, rules)
    found, line, counted = [], chunk.start.line, 0
    for row in rows:
        start, end, _ = spans[row - chunk.start.row]
        line, counted = line + line_count(data[counted:start]), start
        found.append(RawRecord(row=row, line=line, raw=data[start:end]))
    return found
