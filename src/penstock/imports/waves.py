"""Waves: a few chunks, parsed and checked together. The next one is prepared while this one merges."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import polars as pl

from penstock.crashpoints import CrashPoint, reach
from penstock.formats.model import Chunk, Parsed, Position, RawRecord, Reader
from penstock.imports import rejections, ties
from penstock.imports.ledger import WavePlan
from penstock.imports.rejections import Rendered
from penstock.resources.checks import CheckOptions, check
from penstock.resources.model import Resource

# A wave is as many chunks as hold so many records, and at most so many chunks: with more records the import is no faster and takes more
# memory, with fewer it waits more often for all partitions to end. Three chunks of users in CSV, five in NDJSON.
WAVE_RECORDS = 70_000
WAVE_CHUNKS = 6


@dataclass(frozen=True, slots=True)
class Wave:
    """Whole records from `start` to `end`, checked. `plan` is what an earlier attempt decided for it."""

    number: int
    start: Position
    end: Position
    good: pl.DataFrame
    bad: Rendered
    raw: dict[int, RawRecord]  # the bad records, looked up once for all partitions
    tied: frozenset[int]  # by what stands in the file alone
    parsed: tuple[Parsed, ...]
    ignored: frozenset[str]
    processed_bytes: int
    plan: WavePlan | None = None

    def locate(self, rows: list[int]) -> list[RawRecord]:
        """The records as they stand in the file; `rows` in ascending order."""
        more = {record.row: record for record in _located(self.parsed, [row for row in rows if row not in self.raw])}
        return [self.raw.get(row) or more[row] for row in rows]

    def bad_of(self, partition: int, partitions: int) -> Rendered:
        return {row: problems for row, problems in self.bad.items() if row % partitions == partition}


def _located(parsed: Iterable[Parsed], rows: list[int]) -> Iterator[RawRecord]:
    for chunk in parsed:
        mine = [row for row in rows if chunk.first_row <= row < chunk.first_row + chunk.records]
        if mine:
            yield from chunk.locate(mine)


class WaveReader:
    """Reads a file's waves from a position on. `position()` gives the bytes of the file that were read so far."""

    def __init__(self, reader: Reader, resource: Resource, options: CheckOptions, position: Any) -> None:
        self._reader = reader
        self._resource = resource
        self._options = options
        self._position = position

    def waves(self, start: Position, number: int, redo: WavePlan | None) -> Generator[Wave, None, None]:
        """Waves in file order. Raises what the reader raises once the whole records before the fault were yielded."""
        if redo is not None:
            yield self._planned(redo)
            start, number = redo.end, redo.wave + 1
        chunks: list[Chunk] = []
        records, wanted = 0, 1  # the first wave is one chunk: the database waits for it
        fault: Exception | None = None
        iterator = self._reader.chunks(start)
        while fault is None:
            try:
                chunk = next(iterator, None)
            except Exception as error:  # noqa: BLE001  # raised again below, after the records before it
                fault, chunk = error, None
            if chunk is not None:
                chunks.append(chunk)
                records += chunk.end.row - chunk.start.row
            if chunks and (chunk is None or records >= wanted or len(chunks) == WAVE_CHUNKS):
                yield self._checked(number, [self._reader.parse(c) for c in chunks], chunks[0].start, chunks[-1].end)
                number, chunks, records, wanted = number + 1, [], 0, WAVE_RECORDS
            if chunk is None:
                break
        if fault is not None:
            raise fault

    def _planned(self, plan: WavePlan) -> Wave:
        """The wave exactly as it was cut before, even if chunks have another size now."""
        parsed = []
        for chunk in self._reader.chunks(plan.start):
            parsed.append(self._reader.parse(chunk))
            if chunk.end.row >= plan.end.row:
                break
        return self._checked(plan.wave, parsed, plan.start, plan.end, plan)

    def _checked(self, number: int, parsed: list[Parsed], start: Position, end: Position, plan: WavePlan | None = None) -> Wave:
        frame = pl.concat([p.frame for p in parsed], how="diagonal") if len(parsed) > 1 else parsed[0].frame
        if plan is not None:  # chunks of another size may reach beyond the wave's end
            frame = frame.filter(pl.col("row") < end.row)
        wrong = [problem for p in parsed for problem in p.wrong if problem.row < end.row]
        checked = check(self._resource, frame, wrong, self._options)
        broken = (problem for p in parsed for problem in p.broken if problem.row < end.row)
        bad = rejections.rendered(chain(broken, rejections.of_frame(checked.problems)), self._resource)
        wave = Wave(
            number=number,
            start=start,
            end=end,
            good=checked.good,
            bad=bad,
            raw={record.row: record for record in _located(parsed, sorted(bad))},
            tied=ties.in_file(self._resource, checked.good),
            # Kept to look up rejected records; their text in columns is not needed any more.
            parsed=tuple(replace(p, frame=p.frame.clear()) for p in parsed),
            ignored=frozenset().union(*(p.ignored for p in parsed)),
            processed_bytes=self._position(),
            plan=plan,
        )
        reach(CrashPoint.WAVE_PREPARED)
        return wave


def ahead(waves: Iterator[Wave]) -> Generator[Wave, None, None]:
    """One wave ahead, in a thread. What the thread raises is raised here, in its turn."""
    with ThreadPoolExecutor(1, thread_name_prefix="penstock-read") as reader:
        coming = reader.submit(next, waves, None)
        while (wave := coming.result()) is not None:
            coming = reader.submit(next, waves, None)
            yield wave
