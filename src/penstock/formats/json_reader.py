"""NDJSON and JSON arrays as `Reader`s: they differ in how they are cut, and in nothing else."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from penstock.formats.json_array import array_chunks, elements_of, lead_of
from penstock.formats.json_fields import columns_of
from penstock.formats.json_parse import JsonParser
from penstock.formats.model import Chunk, Dialect, Parsed, Position, RawRecord, ReadOptions, RejectedChunk
from penstock.formats.ndjson import line_spans, lines_of, ndjson_chunks
from penstock.formats.rejection import rejected
from penstock.formats.window import Window, window
from penstock.resources.model import Resource
from penstock.sources.model import ByteStream


class _JsonReader:
    def __init__(self, open_at: Callable[[int], ByteStream], dialect: Dialect, options: ReadOptions, resource: Resource) -> None:
        self.dialect = dialect
        self._open_at = open_at
        self._options = options
        columns = columns_of(dialect.fields, resource)
        self._parser = JsonParser(columns, encoding=dialect.encoding, max_record_bytes=options.max_record_bytes)


class NdjsonReader(_JsonReader):
    def chunks(self, start: Position) -> Iterator[Chunk]:
        with window(self._open_at, start.offset) as held:
            yield from ndjson_chunks(held, start, chunk_bytes=self._options.chunk_bytes, max_record_bytes=self._options.max_record_bytes)

    def parse(self, chunk: Chunk) -> Parsed:
        if isinstance(chunk, RejectedChunk):
            return rejected(chunk, self._parser.schema)
        return self._parser.parse(chunk, lines_of(chunk.data, chunk.end.row - chunk.start.row), partial(_locate_lines, chunk))


class JsonReader(_JsonReader):
    def chunks(self, start: Position) -> Iterator[Chunk]:
        if start.row == 1:
            begin = Position(offset=self.dialect.header_bytes, row=1, line=1 + self.dialect.header_lines)
            with window(self._open_at, begin.offset) as held:
                yield from self._cut(held, begin)
            return
        with window(self._open_at, start.offset - 1) as held:
            held.fill(1)
            if not held.data and not held.fault:  # past the end: behind an array that was closed
                return
            held.drop(1)
            yield from self._cut(held, start)

    def parse(self, chunk: Chunk) -> Parsed:
        if isinstance(chunk, RejectedChunk):
            return rejected(chunk, self._parser.schema)
        elements = elements_of(chunk)
        return self._parser.parse(chunk, elements, partial(_locate_elements, chunk, elements))

    def _cut(self, held: Window, start: Position) -> Iterator[Chunk]:
        return array_chunks(held, start, chunk_bytes=self._options.chunk_bytes, max_record_bytes=self._options.max_record_bytes)


def _locate_lines(chunk: Chunk, rows: list[int]) -> list[RawRecord]:
    data: bytes = chunk.data
    spans = line_spans(data)
    found, line, counted = [], chunk.start.line, 0
    for row in rows:
        start, end = spans[row - chunk.start.row]
        line, counted = line + data.count(b"\n", counted, start), start
        found.append(RawRecord(row=row, line=line, raw=data[start:end].rstrip(b"\r")))
    return found


def _locate_elements(chunk: Chunk, elements: Sequence[bytes | msgspec.Raw], rows: list[int]) -> list[RawRecord]:
    data: bytes = chunk.data
    wanted = set(rows)
    found, line, counted, at = [], chunk.start.line, 0, 0
    for row, element in enumerate(elements, chunk.start.row):
        start = lead_of(data, at, first=row == 1)
        at = start + len(element)
        if row in wanted:
            line, counted = line + data.count(b"\n", counted, start), start
            found.append(RawRecord(row=row, line=line, raw=bytes(element)))
    return found
