"""A CSV file as a `Reader`."""

from collections.abc import Callable, Iterator

from penstock.formats.csv_cut import csv_chunks
from penstock.formats.csv_grammar import grammar
from penstock.formats.csv_parse import Layout, parse_csv
from penstock.formats.model import Chunk, Dialect, Parsed, Position, ReadOptions
from penstock.formats.window import window
from penstock.resources.model import FieldType, Resource
from penstock.sources.model import ByteStream


class CsvReader:
    def __init__(self, open_at: Callable[[int], ByteStream], dialect: Dialect, options: ReadOptions, resource: Resource) -> None:
        self.dialect = dialect
        self._open_at = open_at
        self._options = options
        fields = {place: dialect.fields[column] for place, column in enumerate(dialect.columns) if column in dialect.fields}
        texts = {field.name for field in resource.fields if field.type is FieldType.STRING}
        self._layout = Layout(
            rules=grammar(dialect.delimiter),
            delimiter=dialect.delimiter,
            columns=dialect.columns,
            fields=fields,
            guarded=tuple(name for name in fields.values() if name in texts) if dialect.spreadsheet else (),
            null_values=options.null_values,
            encoding=dialect.encoding,
            max_record_bytes=options.max_record_bytes,
        )

    def chunks(self, start: Position) -> Iterator[Chunk]:
        first = Position(offset=self.dialect.header_bytes, row=1, line=1 + self.dialect.header_lines)
        begin = start if start.offset > first.offset else first
        with window(self._open_at, begin.offset) as held:
            yield from csv_chunks(
                held,
                begin,
                self._layout.rules,
                chunk_bytes=self._options.chunk_bytes,
                max_record_bytes=self._options.max_record_bytes,
            )

    def parse(self, chunk: Chunk) -> Parsed:
        return parse_csv(chunk, self._layout)
