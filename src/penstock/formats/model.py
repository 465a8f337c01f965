"""What a format yields: chunks cut at record boundaries, and a parsed chunk as columns of text.

A format knows bytes, records and lines. It knows a resource only as the names and types of the fields to look for; rules come later.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import polars as pl

from penstock.resources.problems import Kind, Problem
from penstock.sources.compression import Compression

__all__ = ["Chunk", "Compression", "Dialect", "Format", "Parsed", "Position", "RawRecord", "ReadOptions", "Reader", "RejectedChunk"]


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"
    PARQUET = "parquet"


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the sender says the file is written. None means: find out, and show what was found in the `Dialect`."""

    format: Format | None = None
    delimiter: str | None = None  # one character
    encoding: str | None = None  # a Python codec name
    null_values: tuple[str, ...] = ("",)  # CSV cells, unquoted, that mean no value
    mapping: Mapping[str, str] = msgspec.field(default_factory=dict)  # column in the file -> field
    max_record_bytes: int = 16 * 1024 * 1024
    chunk_bytes: int = 3 * 1024 * 1024


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is read, fixed before its first chunk and stored with the job, so that every attempt reads the same records."""

    format: Format
    compression: Compression = Compression.NONE
    encoding: str = "utf-8"
    delimiter: str = ","  # CSV only
    line_end: str = "\n"  # CSV only; "\r" for files that have no other
    columns: tuple[str, ...] = ()  # CSV and Parquet: the file's columns, in order; JSON: empty
    fields: Mapping[str, str] = msgspec.field(
        default_factory=dict
    )  # column in the file (JSON: key) -> field of the resource, where they differ or match
    ignored: tuple[str, ...] = ()  # CSV and Parquet: columns that the resource does not have
    spreadsheet: bool = False  # CSV only; text cells have an apostrophe in front of what would be a formula
    header_bytes: int = 0  # decoded bytes before the first record
    header_lines: int = 0


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """A place between two records. `offset` counts bytes of the decompressed text in UTF-8 (Parquet: rows)."""

    offset: int = 0
    row: int = 1  # number of the next record
    line: int = 1  # physical line on which it starts; 0 where the format has no lines


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records, as they stand in the file. `data` is UTF-8 text, or an Arrow table for Parquet."""

    start: Position
    end: Position
    data: Any


@dataclass(frozen=True, slots=True)
class ScannedChunk(Chunk):
    """`spans`: where its records begin and end in `data`. They were found with what follows in sight, and are not found anew without it."""

    spans: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class RejectedChunk(Chunk):
    """One record that is rejected while the file is cut: too large to be held, or past where records may stand. `data` is its beginning."""

    kind: Kind
    detail: str


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it stands in the file, looked up only for what is reported. `line` is None where the format has no lines."""

    row: int
    line: int | None
    raw: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """A chunk as columns.

    `frame` has `row` (Int64) and one String column for each field of the resource that the chunk may hold, named by the field, null where
    there is no value. Lists, objects and children are JSON text. Records that could not be read are absent from it and stand in `broken`,
    one problem each. `wrong` lists cells whose JSON type does not fit their field (their cell is null, their record is in the frame).
    frame.height + len(broken) = records; `locate` gives the raw record for row numbers of this chunk, in ascending order.
    """

    first_row: int
    records: int
    frame: pl.DataFrame
    broken: list[Problem]
    wrong: list[Problem]
    locate: Callable[[list[int]], list[RawRecord]]
    ignored: frozenset[str] = field(default_factory=frozenset)  # JSON keys that the resource does not have


class Reader(Protocol):
    """One file, opened. `chunks` is called by one thread at a time; `parse` is a function of its chunk and may run in others."""

    dialect: Dialect

    def chunks(self, start: Position) -> Iterator[Chunk]:
        """Cut the file from `start` on. Raises TruncatedFileError after the last whole record if the file ends inside one."""

    def parse(self, chunk: Chunk) -> Parsed: ...
