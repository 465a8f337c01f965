"""JSON records as columns of text: one Struct per record, read by msgspec, then one pass per field.

A key that stands twice in a record is lost in every parser, so keys are counted: the chunk cannot hold fewer than the records account for,
and holds as many only if no key is repeated and none is unknown. Keys that the resource does not have are therefore read too (as Raw,
unparsed), found in a sample of the chunk. Only records whose own count differs are looked at one by one; that finds every other unknown
key as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from penstock.formats.columns import ERRORS_COLUMN, is_readable, shown
from penstock.formats.json_columns import Built, build, counted, keys_per_record
from penstock.formats.json_faults import Fault, keys_of, mend, read_object, repeated_key
from penstock.formats.json_fields import Column, Records, Shape, records_type
from penstock.formats.json_scan import MAX_DEPTH, key_count, key_count_of_one, too_deep
from penstock.formats.model import Chunk, Parsed, RawRecord
from penstock.formats.vector import is_utf8, utf8_fault
from penstock.resources.problems import Kind, Problem

SAMPLED = 32  # records of a chunk that are asked for unknown keys
MOST_UNKNOWN = 256  # with more of them in a chunk, the keys are data
MOST_TYPES = 64

Elements = Sequence[bytes | msgspec.Raw]


@dataclass(slots=True)
class Batch:
    """The records of a chunk that could be read, by their place in the chunk, and what was wrong with the others."""

    places: list[int]
    records: list[Any]
    faults: dict[int, Fault] = field(default_factory=dict)
    wrong: list[tuple[int, Column, str]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def refuse(self, refused: dict[int, Fault]) -> None:
        if refused:
            kept = [(place, record) for place, record in zip(self.places, self.records, strict=True) if place not in refused]
            self.places, self.records = [place for place, _ in kept], [record for _, record in kept]
            self.wrong = [cell for cell in self.wrong if cell[0] not in refused]
            self.faults |= refused


class JsonParser:
    """Shared by threads: its one cache maps the unknown keys of a chunk to the Struct that counts them, and is only added to or emptied."""

    def __init__(self, columns: tuple[Column, ...], *, encoding: str, max_record_bytes: int) -> None:
        self._columns = columns
        self._known = frozenset(column.key for column in columns)
        self._encoding = encoding
        self._max_record_bytes = max_record_bytes
        self._types: dict[frozenset[str], Records] = {}
        self.schema = pl.Schema([("row", pl.Int64()), *((column.field, pl.String()) for column in columns)])

    def parse(self, chunk: Chunk, elements: Elements, locate: Callable[[list[int]], list[RawRecord]]) -> Parsed:
        first = chunk.start.row
        assert len(elements) == chunk.end.row - first, "the cutter and the parser disagree about a chunk's records"
        faults = self._unreadable(elements, chunk.data)
        kind = self._type_for(elements, faults)
        batch = self._read(elements, faults, kind)
        data = chunk.data if len(batch.places) == len(elements) else b"\n".join([elements[place] for place in batch.places])
        built = self._build(batch)
        if self._refuse_repeated(batch, elements, data, built, kind):
            built = self._build(batch)
        series = [pl.Series("row", batch.places, dtype=pl.Int64) + first, *(column.series for column in built)]
        return Parsed(
            first_row=first,
            records=len(elements),
            frame=pl.DataFrame(series),
            broken=[Problem(row=first + place, kind=fault.kind, detail=fault.detail) for place, fault in sorted(batch.faults.items())],
            wrong=_wrong(batch, built, self._columns, first),
            locate=locate,
            ignored=frozenset(map(shown, batch.unknown - {ERRORS_COLUMN})),
        )

    def _unreadable(self, elements: Elements, data: bytes) -> dict[int, Fault]:
        """What must not reach a parser, or is no text."""
        faults = {place: Fault(Kind.NESTED_TOO_DEEP, str(MAX_DEPTH)) for place in too_deep(elements, data)}
        if not is_utf8(data):
            for place, element in enumerate(elements):
                if not is_utf8(text := bytes(element)):
                    faults[place] = Fault(Kind.INVALID_ENCODING, utf8_fault(text, self._encoding))
        if len(data) > self._max_record_bytes:
            large = Fault(Kind.RECORD_TOO_LARGE, str(self._max_record_bytes))
            faults |= {place: large for place, element in enumerate(elements) if len(bytes(element).rstrip()) > self._max_record_bytes}
        return faults

    def _type_for(self, elements: Elements, faults: dict[int, Fault]) -> Records:
        unknown: set[str] = set()
        for place in range(0, len(elements), max(1, len(elements) // SAMPLED)):
            if place not in faults:
                whole = read_object(bytes(elements[place]))
                unknown.update(() if isinstance(whole, Fault) else whole.keys() - self._known)
        readable = frozenset(filter(is_readable, unknown))
        keys = readable if len(readable) <= MOST_UNKNOWN else frozenset[str]()
        found = self._types.get(keys)
        if found is None:
            if len(self._types) >= MOST_TYPES:
                self._types.clear()
            self._types[keys] = found = records_type(self._columns, keys)
        return found

    def _read(self, elements: Elements, faults: dict[int, Fault], kind: Records) -> Batch:
        decode = kind.decoder.decode
        places: Sequence[int] = range(len(elements))
        if faults:
            places = [place for place in places if place not in faults]
        records, failed = [], []
        for place in places:
            try:
                records.append(decode(elements[place]))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                failed.append(place)
                records.append(None)
        batch = Batch(list(places), records, faults)
        if failed:
            self._mend(batch, elements, set(failed), kind)
        return batch

    def _mend(self, batch: Batch, elements: Elements, failed: set[int], kind: Records) -> None:
        records, places = [], []
        for place, record in zip(batch.places, batch.records, strict=True):
            if place in failed:
                mended = mend(bytes(elements[place]), self._columns)
                if isinstance(mended, Fault):
                    batch.faults[place] = mended
                    continue
                batch.wrong += [(place, column, text) for column, text in mended.wrong]
                records.append(kind.make(**mended.values))
            else:
                records.append(record)
            places.append(place)
        batch.places, batch.records = places, records

    def _build(self, batch: Batch) -> list[Built]:
        return [build(c.field, list(map(attrgetter(c.attribute), batch.records)), c.shape) for c in self._columns]

    def _refuse_repeated(self, batch: Batch, elements: Elements, data: bytes, built: list[Built], kind: Records) -> bool:
        """Turn records with a repeated key into faults; whether there were any. Notes the unknown keys."""
        total = sum(column.present + column.keys for column in built)
        for attribute, key in kind.extras.items():
            present, keys = counted(list(map(attrgetter(attribute), batch.records)))
            total += present + keys
            if present:
                batch.unknown.add(key)
        if not batch.records or key_count(data) == total:
            return False
        refused = {}
        for place, expected in zip(batch.places, self._expected(batch, kind), strict=True):
            element = bytes(elements[place])
            if key_count_of_one(element) != expected:
                keys_here = keys_of(element)
                batch.unknown.update(key for key in keys_here if key not in self._known)
                if fault := repeated_key(keys_here):
                    refused[place] = fault
        batch.refuse(refused)
        return bool(refused)

    def _expected(self, batch: Batch, kind: Records) -> list[int]:
        """How many keys each record accounts for."""
        counts = [keys_per_record(list(map(attrgetter(c.attribute), batch.records)), is_text=c.shape is Shape.TEXT) for c in self._columns]
        counts += [keys_per_record(list(map(attrgetter(attribute), batch.records)), is_text=False) for attribute in kind.extras]
        return list(map(sum, zip(*counts, strict=True)))


def _wrong(batch: Batch, built: list[Built], columns: tuple[Column, ...], first: int) -> list[Problem]:
    found = list(batch.wrong)
    for column, cells in zip(columns, built, strict=True):
        found += [(batch.places[index], column, text) for index, text in cells.wrong]
    found.sort(key=lambda cell: cell[0])
    return [
        Problem(row=first + place, kind=Kind.INVALID, field=column.field, value=text, detail=column.shape) for place, column, text in found
    ]
