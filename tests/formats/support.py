"""A resource to read files for, and a file as one value: every record, good or bad, with its row, its line and its bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from penstock.errors import PenstockError
from penstock.formats import open_reader
from penstock.formats.model import Dialect, Parsed, Position, Reader, ReadOptions
from penstock.resources.model import Child, Field, FieldType, Reference, Resource, ResourceName
from penstock.resources.problems import Problem
from penstock.sources import open_source

NOTES = Resource(
    name=ResourceName("notes"),
    table="notes",
    natural_key="email",
    fields=(
        Field("id", FieldType.UUID),
        Field("email", FieldType.STRING, required=True),
        Field("name", FieldType.STRING),
        Field("author_id", FieldType.UUID),
        Field("count", FieldType.INTEGER),
        Field("price", FieldType.NUMBER, precision=12, scale=2),
        Field("active", FieldType.BOOLEAN),
        Field("at", FieldType.DATETIME),
        Field("tags", FieldType.STRINGS),
    ),
    references=(
        Reference("author_id", ResourceName("people"), "people", alias="author_email", alias_key=Field("email", FieldType.STRING)),
    ),
    children=(Child("parts", "parts", "note_id", (Field("name", FieldType.STRING),)),),
)


@dataclass
class Outcome:
    """A file, read to its end or to `error`."""

    dialect: Dialect
    frame: pl.DataFrame
    broken: list[Problem] = field(default_factory=list)
    wrong: list[Problem] = field(default_factory=list)
    raw: dict[int, bytes] = field(default_factory=dict)
    lines: dict[int, int | None] = field(default_factory=dict)
    ends: list[Position] = field(default_factory=list)
    ignored: frozenset[str] = frozenset()
    error: PenstockError | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The good records, without the fields that have no value."""
        return [{name: value for name, value in record.items() if value is not None} for record in self.frame.to_dicts()]

    def values(self, name: str) -> list[str | None]:
        return self.frame[name].to_list()

    @property
    def verdicts(self) -> list[tuple[int, str, str | None]]:
        return [(problem.row, problem.kind.value, problem.detail) for problem in self.broken]

    @property
    def kinds(self) -> dict[int, str]:
        return {problem.row: problem.kind.value for problem in self.broken}


def reader_of(path: Path, options: ReadOptions | None = None, *, dialect: Dialect | None = None, partial: bool = False) -> Reader:
    return open_reader(open_source(path), NOTES, options or ReadOptions(), dialect, partial=partial)


def read(path: Path, options: ReadOptions | None = None, start: Position | None = None, *, partial: bool = False) -> Outcome:
    return drain(reader_of(path, options, partial=partial), start or Position())


def drain(reader: Reader, start: Position) -> Outcome:
    frames: list[pl.DataFrame] = []
    outcome = Outcome(reader.dialect, pl.DataFrame())
    try:
        for chunk in reader.chunks(start):
            assert not outcome.ends or chunk.start.row == outcome.ends[-1].row
            parsed = reader.parse(chunk)
            assert parsed.records == chunk.end.row - chunk.start.row == parsed.frame.height + len(parsed.broken)
            outcome.ends.append(chunk.end)
            frames.append(parsed.frame)
            _gather(outcome, parsed)
    except PenstockError as fault:
        outcome.error = fault
    if frames:
        outcome.frame = pl.concat(frames)
    return outcome


def _gather(outcome: Outcome, parsed: Parsed) -> None:
    outcome.broken += parsed.broken
    outcome.wrong += parsed.wrong
    outcome.ignored |= parsed.ignored
    for record in parsed.locate(list(range(parsed.first_row, parsed.first_row + parsed.records))):
        outcome.raw[record.row] = record.raw
        outcome.lines[record.row] = record.line


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def written(folder: Path, name: str, data: bytes) -> Iterator[Path]:
    path = folder / name
    path.write_bytes(data)
    yield path
    path.unlink()


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
