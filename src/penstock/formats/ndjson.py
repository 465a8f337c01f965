"""NDJSON, cut at line feeds. A line of nothing but space is no record."""

import re
from collections.abc import Iterator

from penstock.formats.model import Chunk, Position, RejectedChunk
from penstock.formats.vector import CR, LF, feed_count, octets
from penstock.formats.window import MOST_RECORDS, PREFIX_BYTES, SKIP_BYTES, Window
from penstock.resources.problems import Kind

LINE_END_BYTES = 2
_SPACE, _TAB = 32, 9
_LINE = re.compile(rb"[^\n]++")


def lines_of(data: bytes, records: int) -> list[bytes]:
    """The records of a chunk, which the cutter has counted."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if len(lines) == records:
        return lines
    return [line for line in lines if line and not line.isspace()]


def record_count(data: bytes) -> int:
    if not data:
        return 0
    series = octets(b"\n" + data)
    ends = series == LF
    first = series.filter(ends.shift(1, fill_value=False))  # the first byte of each line
    blank = (first == LF) | (first == _SPACE) | (first == CR) | (first == _TAB)
    if blank.any():
        return sum(1 for line in data.split(b"\n") if line and not line.isspace())
    return first.len()


def ndjson_chunks(window: Window, start: Position, *, chunk_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
    at, wanted = start, chunk_bytes
    while True:
        window.fill(wanted)
        size = len(window.data) if window.complete else window.data.rfind(b"\n") + 1
        if size:
            data, records = _counted(window.data[:size])
            size = len(data)
            end = Position(offset=at.offset + size, row=at.row + records, line=at.line + feed_count(data))
            window.drop(size)
            if records:
                yield Chunk(start=at, end=end, data=data)
            at, wanted = end, chunk_bytes
        if window.ended and (not window.data or (window.fault and not size)):
            break
        if not size:
            if len(window.data) > max_record_bytes + LINE_END_BYTES:
                skipped = _skip_line(window, at, max_record_bytes)
                yield skipped
                at, wanted = skipped.end, chunk_bytes
            else:
                wanted = min(2 * max(len(window.data), chunk_bytes), max_record_bytes + LINE_END_BYTES + 1)
    if window.fault:
        raise window.fault


def _counted(data: bytes) -> tuple[bytes, int]:
    """The first MOST_RECORDS lines at most, and the number of records in them."""
    ends = octets(data) == LF
    if ends.sum() > MOST_RECORDS:
        data = data[: int(ends.arg_true()[MOST_RECORDS - 1]) + 1]
    return data, record_count(data)


def _skip_line(window: Window, at: Position, max_record_bytes: int) -> RejectedChunk:
    prefix, lines = window.data[: min(PREFIX_BYTES, max_record_bytes)], 0
    while window.data:
        if (end := window.data.find(b"\n") + 1) > 0:
            window.drop(end)
            lines = 1
            break
        window.replace(SKIP_BYTES)
    else:
        if window.fault:
            raise window.fault
    end_at = Position(offset=window.offset, row=at.row + 1, line=at.line + lines)
    return RejectedChunk(start=at, end=end_at, data=prefix, kind=Kind.RECORD_TOO_LARGE, detail=str(max_record_bytes))


def line_spans(data: bytes) -> list[tuple[int, int]]:
    """Where the records of a chunk stand, without their line ends."""
    return [found.span() for found in _LINE.finditer(data) if not found.group().isspace()]
