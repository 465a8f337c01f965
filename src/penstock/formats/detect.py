"""A source and what its sender says of it, to a `Reader` whose dialect is fixed."""

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from functools import partial as bound

import msgspec

from penstock.errors import EmptyFileError, InvalidOptionError, TruncatedFileError
from penstock.formats import sniff
from penstock.formats.columns import OWN_COLUMNS, match_columns, match_keys, shown
from penstock.formats.csv_dialect import check_delimiter, read_header
from penstock.formats.csv_guard import SPREADSHEET_COLUMN
from penstock.formats.csv_reader import CsvReader
from penstock.formats.json_reader import JsonReader, NdjsonReader
from penstock.formats.model import Compression, Dialect, Format, Reader, ReadOptions
from penstock.formats.window import Window, window
from penstock.resources.model import Resource
from penstock.sources.compression import compression_of, decompressed
from penstock.sources.encoding import encoding_of
from penstock.sources.model import ByteStream, Source
from penstock.sources.text import open_text

HEAD_BYTES = 64 * 1024
_SPACE = b" \t\r\n"


def open_reader(
    source: Source, resource: Resource, options: ReadOptions, dialect: Dialect | None = None, *, partial: bool = False
) -> Reader:
    """Find out how the file is written, or follow `dialect` from an earlier attempt, with which nothing is found out anew.

    `partial`: the import only changes stored records (mode=update), so required fields may have no column.
    Raises EmptyFileError, UnknownFormatError, TruncatedFileError, MissingColumnsError, DuplicateColumnsError, InvalidOptionError.
    """
    _check(options)
    if dialect is None:
        dialect = _find_dialect(source, _Fields(resource, options, changes_only=partial), options)
    if dialect.format is Format.PARQUET:
        from penstock.formats.parquet import ParquetReader, open_parquet  # noqa: PLC0415 - _parquet_dialect says why

        return ParquetReader(open_parquet(source, dialect.compression), dialect, options)
    open_at = _text_opener(source, dialect.compression, dialect.encoding)
    match dialect.format:
        case Format.CSV:
            return CsvReader(open_at, dialect, options, resource)
        case Format.NDJSON:
            return NdjsonReader(open_at, dialect, options, resource)
        case Format.JSON:
            return JsonReader(open_at, dialect, options, resource)


def describe(source: Source, options: ReadOptions, *, known: Collection[str] = ()) -> Dialect:
    """How the file is written, whatever its columns stand for: no column is matched to a field. `known` names help to tell the delimiter.

    Raises EmptyFileError, UnknownFormatError, TruncatedFileError, InvalidOptionError.
    """
    _check(options)
    return _find_dialect(source, _Unmatched(known), options)


class _Fields:
    """Columns and keys as the fields of a resource that they stand for."""

    def __init__(self, resource: Resource, options: ReadOptions, *, changes_only: bool) -> None:
        self.known: Collection[str] = {*resource.accepted, *options.mapping, *OWN_COLUMNS}
        self._resource = resource
        self._mapping = options.mapping
        self._changes_only = changes_only

    def of_columns(self, columns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        return match_columns(columns, self._resource, self._mapping, partial=self._changes_only)

    def of_keys(self) -> dict[str, str]:
        return match_keys(self._resource, self._mapping)


class _Unmatched:
    def __init__(self, known: Collection[str]) -> None:
        self.known = known

    def of_columns(self, columns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        return {}, [column for column in columns if column]

    def of_keys(self) -> dict[str, str]:
        return {}


_Matching = _Fields | _Unmatched


def _check(options: ReadOptions) -> None:
    if options.delimiter is not None:
        check_delimiter(options.delimiter)
    for name in ("max_record_bytes", "chunk_bytes"):
        if getattr(options, name) < 1:
            raise InvalidOptionError(f"{name} must be at least 1")


def _text_opener(source: Source, compression: Compression, encoding: str) -> Callable[[int], ByteStream]:
    return bound(open_text, source, compression, encoding)


def _find_dialect(source: Source, matching: _Matching, options: ReadOptions) -> Dialect:
    name = source.name
    compression, head = _head(source)
    sniff.refuse_foreign(head, name)
    named = options.format or sniff.format_of_name(name)
    if sniff.is_parquet(head) and named not in (None, Format.PARQUET):
        raise sniff.unknown(f"{name} is a Parquet file, not {named}; give format=parquet")
    if head and (named is Format.PARQUET or sniff.is_parquet(head)):
        return _parquet_dialect(source, matching, compression)
    encoding = encoding_of(head, options.encoding)
    with window(_text_opener(source, compression, encoding), 0) as text:
        lead = _fill_to_text(text, name, options.max_record_bytes)
        sniff.refuse_binary(text.data, name)
        found = _format(named, text, lead, name)
        base = Dialect(format=found, compression=compression, encoding=encoding)
        if found is Format.CSV:
            return _csv_dialect(base, text, name, matching, options)
        fields = matching.of_keys()
        if found is Format.NDJSON:
            return msgspec.structs.replace(base, fields=fields)
        header = text.data[: lead + 1]
        return msgspec.structs.replace(base, fields=fields, header_bytes=len(header), header_lines=header.count(b"\n"))


def _head(source: Source) -> tuple[Compression, bytes]:
    """The first bytes, decompressed as far as they go; what is wrong with the stream shows when the text is read."""
    stream = source.open()
    try:
        compression = compression_of(stream.read(HEAD_BYTES))
    finally:
        stream.close()
    stream = decompressed(source.open(), compression)
    try:
        return compression, stream.read(HEAD_BYTES)
    except TruncatedFileError:
        return compression, b""
    finally:
        stream.close()


def _fill_to_text(text: Window, name: str, most_bytes: int) -> int:
    """Where the first byte stands that is no space."""
    wanted = HEAD_BYTES
    while True:
        text.fill(wanted)
        lead = len(text.data) - len(text.data.lstrip(_SPACE))
        if lead < len(text.data):
            return lead
        if text.ended:
            raise text.fault or EmptyFileError(f"{name} is empty: it holds nothing but space")
        if wanted > most_bytes:
            raise sniff.unknown(f"{name} begins with more than {most_bytes} bytes of space")
        wanted *= 2


def _format(named: Format | None, text: Window, lead: int, name: str) -> Format:
    if named in (Format.CSV, Format.NDJSON):
        return named
    match text.data[lead : lead + 1]:
        case b"[":
            return Format.JSON
        case b"{":
            _refuse_single_object(text, lead, name)
            return Format.NDJSON
        case _ if named is None:
            return Format.CSV
        case _:
            raise sniff.unknown(f"{name} is not JSON: it begins with neither [ nor {{")


def _refuse_single_object(text: Window, lead: int, name: str) -> None:
    """One object over several lines is neither NDJSON nor an array. A broken first record among others is NDJSON still."""
    line, _, behind = text.data[lead:].partition(b"\n")
    if not behind.strip() or behind.lstrip().startswith(b"{"):
        return
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.MsgspecError:
        raise sniff.unknown(f"{name} holds a single JSON object; put the records into an array, or one object on each line") from None


def _csv_dialect(base: Dialect, text: Window, name: str, matching: _Matching, options: ReadOptions) -> Dialect:
    delimiter = options.delimiter or ("\t" if sniff.is_tsv(name) and b"\t" in text.data else None)
    header = read_header(text, delimiter=delimiter, known=matching.known, max_bytes=options.max_record_bytes)
    fields, ignored = matching.of_columns(header.columns)
    return msgspec.structs.replace(
        base,
        delimiter=header.delimiter,
        line_end=header.line_end,
        columns=header.columns,
        fields=fields,
        ignored=tuple(ignored),
        spreadsheet=SPREADSHEET_COLUMN in header.columns and SPREADSHEET_COLUMN not in {*fields, *options.mapping},
        header_bytes=header.size,
        header_lines=header.lines,
    )


def _parquet_dialect(source: Source, matching: _Matching, compression: Compression) -> Dialect:
    # pyarrow's Parquet and compute modules take a tenth of a command's start, which other formats need not wait for.
    from penstock.formats.parquet import open_parquet  # noqa: PLC0415

    with closing(open_parquet(source, compression)) as file:
        columns = tuple(map(shown, file.schema_arrow.names))
    fields, ignored = matching.of_columns(columns)
    return Dialect(format=Format.PARQUET, compression=compression, columns=columns, fields=fields, ignored=tuple(ignored))
