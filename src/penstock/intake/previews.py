"""What an import of a file would see, from the file's beginning: how it is written, what its columns stand for, its first records."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from penstock.errors import DuplicateColumnsError, FileFaultError, MissingColumnsError, TruncatedFileError
from penstock.formats import describe, open_reader
from penstock.formats.columns import OWN_COLUMNS, check_mapping, is_readable, match_columns, match_keys
from penstock.formats.model import Dialect, Format, Parsed, Position, RawRecord, ReadOptions
from penstock.formats.render import record_of
from penstock.intake.heads import HEAD_BYTES, HeadSource
from penstock.intake.suggesting import suggested
from penstock.jobs.model import ImportOptions, Mode
from penstock.resources.checks import CheckOptions, check
from penstock.resources.model import Field, FieldType, Resource, ResourceName
from penstock.resources.problems import Problem, render
from penstock.sources.model import Source

PREVIEW_RECORDS = 20
_MOST_COLUMNS = 500  # that a suggestion is looked for; every pair of names is compared
_ANY = "any"
_NO_RESOURCE = Resource(name=ResourceName("none"), table="none", fields=(Field(_ANY, FieldType.STRING),))
_NEEDS_THE_WHOLE = (
    "A Parquet file's columns stand at its end, so its beginning shows nothing. Send the file as an upload and preview that, or import it "
    "with dry_run."
)
_TOO_LONG = "The first record is longer than the part of the file that is looked at (1 MiB)."


class PreviewRecord(msgspec.Struct, frozen=True, kw_only=True):
    row: int  # from 1
    line: int | None  # None where the format has no lines
    record: dict[str, Any] | str  # as read, by column; a text where it is no record


class FileFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why an import of this file would fail as a whole."""

    code: str
    message: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    format: Format
    compression: str
    encoding: str | None  # None for Parquet
    delimiter: str | None  # CSV only
    columns: list[str]  # JSON: the keys of the first records
    mapping: dict[str, str] = {}  # suggested: column -> field; give it back as `mapping`
    unmapped: list[str] = []  # columns that would be ignored
    missing: list[str] = []  # fields that the file must have and has not
    records: list[PreviewRecord] = []  # the first 20
    problems: list[dict[str, Any]] = []  # of these records: row, line, type, code, field, value, message
    faults: list[FileFault] = []
    notes: list[str] = []
    whole: bool  # the file is no longer than what was looked at


def preview(source: Source, resource: Resource | None, read: ReadOptions, options: ImportOptions) -> Preview:
    """Rules that ask the database (references, uniqueness) are not judged. Not for the event loop.

    Raises EmptyFileError, UnknownFormatError, InvalidOptionError; what else is wrong with the file stands in `faults`.
    """
    whole = not isinstance(source, HeadSource) or source.whole
    read = msgspec.structs.replace(read, chunk_bytes=HEAD_BYTES)
    if isinstance(source, HeadSource) and not whole and source.is_parquet:
        return _blind(source, Format.PARQUET, _NEEDS_THE_WHOLE)
    if resource is not None:
        check_mapping(read.mapping, resource)
    known = () if resource is None else (*resource.accepted, *read.mapping)
    try:
        dialect = describe(source, read, known=known)
    except TruncatedFileError:
        if whole:
            raise
        return _blind(source, read.format or Format.CSV, _TOO_LONG)
    parts = _Parts(source, dialect, read, whole=whole)
    records = parts.records()
    columns = [*dialect.columns] or [*dict.fromkeys(key for shown in records if isinstance(shown.record, dict) for key in shown.record)]
    shown = _shown(source.name, dialect, columns, records, whole=whole)
    if resource is not None:
        shown = _matched(shown, parts, resource, options)
    faults = [*shown.faults, *parts.faults]
    return msgspec.structs.replace(shown, faults=faults, notes=[] if records or faults else [_TOO_LONG] if not whole else [])


def _blind(source: Source, found: Format, note: str) -> Preview:
    return Preview(name=source.name, format=found, compression="none", encoding=None, delimiter=None, columns=[], notes=[note], whole=False)


def _shown(name: str, dialect: Dialect, columns: list[str], records: list[PreviewRecord], *, whole: bool) -> Preview:
    return Preview(
        name=name,
        format=dialect.format,
        compression=dialect.compression.value,
        encoding=None if dialect.format is Format.PARQUET else dialect.encoding,
        delimiter=dialect.delimiter if dialect.format is Format.CSV else None,
        columns=columns,
        unmapped=[],
        records=records,
        whole=whole,
    )


class _Parts:
    """The first records, read as often as they are needed: once to see them, once more when it is known what columns stand for."""

    def __init__(self, source: Source, dialect: Dialect, read: ReadOptions, *, whole: bool) -> None:
        self._source = source
        self.read = read
        self._whole = whole
        self.dialect = msgspec.structs.replace(dialect, columns=_distinct(dialect.columns))
        self.faults: list[FileFault] = []

    def parsed(self, fields: Mapping[str, str], resource: Resource) -> Iterator[Parsed]:
        dialect = msgspec.structs.replace(self.dialect, fields=fields)
        reader = open_reader(self._source, resource, self.read, dialect)
        try:
            for chunk in reader.chunks(Position()):
                yield reader.parse(chunk)
                if chunk.end.row > PREVIEW_RECORDS:
                    return
        except TruncatedFileError as fault:
            if self._whole:
                self.faults = [FileFault(code=fault.code, message=fault.message)]

    def records(self) -> list[PreviewRecord]:
        # Readers want at least one column to read; which one does not matter, since each record is shown as it stands in the file.
        fields = {next(filter(None, self.dialect.columns), _ANY): _ANY}
        return [
            PreviewRecord(row=raw.row, line=raw.line, record=record_of(raw.raw, self.dialect))
            for part in self.parsed(fields, _NO_RESOURCE)
            for raw in _first(part)
        ]


def _distinct(columns: tuple[str, ...]) -> tuple[str, ...]:
    """A column's name that comes again is numbered, so that every cell can be shown."""
    seen: Counter[str] = Counter()
    names = []
    for column in columns:
        seen[column] += 1
        names.append(column if not column or seen[column] == 1 else f"{column} ({seen[column]})")
    return tuple(names)


def _first(part: Parsed) -> list[RawRecord]:
    rows = [row for row in range(part.first_row, part.first_row + part.records) if row <= PREVIEW_RECORDS]
    return part.locate(rows) if rows else []


def _matched(shown: Preview, parts: _Parts, resource: Resource, options: ImportOptions) -> Preview:
    columns = [column for column, count in Counter(shown.columns).items() if count == 1 and column and column not in OWN_COLUMNS]
    mapping = suggested(columns[:_MOST_COLUMNS], resource.accepted, parts.read.mapping)
    changes_only = options.mode is Mode.UPDATE
    fields, missing, faults = _fields(parts.dialect, shown.columns, mapping, resource, changes_only=changes_only)
    check_options = CheckOptions(partial=changes_only, timezone=options.timezone, datetime_format=options.datetime_format)
    parsed = parts.parsed(fields, resource) if fields else ()  # without any field that is known there is nothing to judge
    problems = [problem for part in parsed for problem in _problems(part, resource, check_options)]
    lines = {record.row: record.line for record in shown.records}
    return msgspec.structs.replace(
        shown,
        mapping=mapping,
        unmapped=[column for column in columns if column not in mapping],
        missing=missing,
        problems=[
            {"row": row, "line": lines.get(row), **problem}
            for row, problem in problems
            # Said once, of the file.
            if not (problem["code"].endswith("_required") and problem["field"] in missing)
        ],
        faults=faults,
    )


def _fields(
    dialect: Dialect, columns: list[str], mapping: dict[str, str], resource: Resource, *, changes_only: bool
) -> tuple[dict[str, str], list[str], list[FileFault]]:
    """What an import with this mapping would take for which field, the fields it would miss, and why it would fail."""
    renamed = {column: field for column, field in mapping.items() if column != field}
    if dialect.format in (Format.JSON, Format.NDJSON):
        return match_keys(resource, {key: field for key, field in renamed.items() if is_readable(key)}), [], []
    try:
        return match_columns(columns, resource, renamed, partial=changes_only)[0], [], []
    except (MissingColumnsError, DuplicateColumnsError) as fault:
        return mapping, fault.details.get("missing", []), [_told(fault)]


def _told(fault: FileFaultError) -> FileFault:
    return FileFault(code=fault.code, message=fault.message)


def _problems(part: Parsed, resource: Resource, options: CheckOptions) -> Iterator[tuple[int, dict[str, Any]]]:
    frame = part.frame.filter(part.frame["row"] <= PREVIEW_RECORDS)
    checked = check(resource, frame, [*_of_the_first(part.wrong)], options)
    found = [(problem.row, asdict(problem)) for problem in _of_the_first(part.broken)]
    found += [(row["row"], row) for row in checked.problems.iter_rows(named=True)]
    return ((row, render(columns, resource)) for row, columns in sorted(found, key=lambda pair: pair[0]))


def _of_the_first(problems: Iterable[Problem]) -> Iterator[Problem]:
    return (problem for problem in problems if problem.row <= PREVIEW_RECORDS)
