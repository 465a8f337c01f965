"""A JSON array, cut between elements.

Fast: the brackets of a block tell where its last element ends unless one stands inside a text, and msgspec, which splits without parsing
(`list[Raw]`, 2 ms for 4 MiB), confirms it. Else the scan by brackets and texts decides.

A place between two elements lies before what separates them, so that the next byte tells whether the array goes on. Behind an array that is
followed by more than space, the last place is one past the end of the text: nothing is left to be read there.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from penstock.errors import TruncatedFileError
from penstock.formats.json_elements import SPACE, ElementEnd, Extent, Span, scan_elements, skip_space
from penstock.formats.json_scan import MAX_DEPTH, bracket_level
from penstock.formats.model import Chunk, Position, RejectedChunk, ScannedChunk
from penstock.formats.vector import feed_count
from penstock.formats.window import MOST_RECORDS, PREFIX_BYTES, SKIP_BYTES, Window
from penstock.resources.problems import Kind

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])


class Cut(NamedTuple):
    end: int
    records: int
    closed: int | None = None  # behind the bracket that closes the array
    spans: Sequence[Span] | None = None  # the elements, where they were found by the scan


def split_elements(data: bytes, *, first: bool) -> Sequence[bytes | msgspec.Raw] | None:
    """The elements in `data`; None if they are not all well-formed JSON, each separated from the next."""
    body = data.lstrip(SPACE)
    if not first and body.startswith(b","):
        body = body[1:]
    try:
        return _ELEMENTS.decode(b"[" + body + b"]")
    except (msgspec.MsgspecError, RecursionError):
        return None


def elements_of(chunk: Chunk) -> Sequence[bytes | msgspec.Raw]:
    """The elements of a chunk, malformed ones too, as they were cut."""
    if isinstance(chunk, ScannedChunk):
        return [chunk.data[start:end] for start, end in chunk.spans]
    elements = split_elements(chunk.data, first=chunk.start.row == 1)
    assert elements is not None
    return elements


def find_cut(data: bytes, *, first: bool, ended: bool, limit: int) -> Cut:
    level = bracket_level(data)
    if 0 < level.depth <= MAX_DEPTH and level.end:
        behind = skip_space(data, level.end)
        known = data[behind] in b",]" if behind < len(data) else ended
        elements = split_elements(data[: level.end], first=first) if known else None
        if elements and len(elements) <= MOST_RECORDS:
            return Cut(level.end, len(elements))
    found = scan_elements(data, Extent(first=first, ended=ended, limit=limit))
    return Cut(found.stop, len(found.spans), found.closed, found.spans)


def array_chunks(window: Window, start: Position, *, chunk_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
    """Raises TruncatedFileError behind the last whole element if the array is never closed."""
    at, wanted = start, chunk_bytes
    while True:
        window.fill(wanted)
        cut = find_cut(window.data, first=at.row == 1, ended=window.ended, limit=max_record_bytes)
        if cut.records:
            data = window.data[: cut.end]
            end = Position(offset=at.offset + cut.end, row=at.row + cut.records, line=at.line + feed_count(data))
            window.drop(cut.end)
            yield Chunk(start=at, end=end, data=data) if cut.spans is None else ScannedChunk(start=at, end=end, data=data, spans=cut.spans)
            at, wanted = end, chunk_bytes
        if cut.closed is not None:
            gap = cut.closed - cut.end
            line = at.line + window.data.count(b"\n", 0, gap)
            window.drop(gap)
            yield from _behind_array(window, at, line)
            return
        if cut.records:
            continue
        if window.ended:
            raise window.fault or _never_closed(at.line, at.row)
        at = _pass_space(window, at)
        lead = min(lead_of(window.data, 0, first=at.row == 1), SKIP_BYTES)
        if len(window.data) > lead + max_record_bytes + 1:  # one more than the element: what stands behind it
            skipped = _skip_element(window, at, max_record_bytes)
            yield skipped
            at, wanted = skipped.end, chunk_bytes
        else:
            wanted = min(2 * max(len(window.data), chunk_bytes), lead + max_record_bytes + 2)


def _pass_space(window: Window, at: Position) -> Position:
    """Forget space by the megabyte. A little is kept: how its line begins tells where a broken element ends."""
    blank = skip_space(window.data, 0)
    if blank < SKIP_BYTES:
        return at
    passed = Position(offset=at.offset + blank, row=at.row, line=at.line + window.data.count(b"\n", 0, blank))
    window.drop(blank)
    return passed


def lead_of(data: bytes, at: int, *, first: bool) -> int:
    """Where the element begins that is separated from `at` by space and, unless it is the first of all, a comma."""
    begin = skip_space(data, at)
    return skip_space(data, begin + 1) if not first and data.startswith(b",", begin) else begin


def _skip_element(window: Window, at: Position, max_record_bytes: int) -> RejectedChunk:
    begin = lead_of(window.data, 0, first=at.row == 1)
    prefix = window.data[begin : begin + min(PREFIX_BYTES, max_record_bytes)]
    begin_at = Position(offset=at.offset, row=at.row, line=at.line + window.data.count(b"\n", 0, begin))
    window.drop(begin)
    window.fill(1)
    search, lines = ElementEnd(), 0
    while window.data:
        end = search.feed(window.data)
        lines += window.data.count(b"\n", 0, end)
        if end is not None:
            window.drop(end)
            break
        window.replace(SKIP_BYTES)
    else:
        raise window.fault or _never_closed(begin_at.line, at.row)
    end_at = Position(offset=window.offset, row=at.row + 1, line=begin_at.line + lines)
    return RejectedChunk(start=begin_at, end=end_at, data=prefix, kind=Kind.RECORD_TOO_LARGE, detail=str(max_record_bytes))


def _never_closed(line: int, row: int) -> TruncatedFileError:
    return TruncatedFileError(f"the array is never closed: the file ends behind or inside the element at line {line}", line=line, row=row)


def _behind_array(window: Window, at: Position, line: int) -> Iterator[RejectedChunk]:
    """Space, or one more record that can only be rejected: whatever follows the array."""
    while window.data or not window.ended:
        blank = skip_space(window.data, 0)
        line += window.data.count(b"\n", 0, blank)
        window.drop(blank)
        if window.data:
            break
        window.fill(SKIP_BYTES)
    window.fill(PREFIX_BYTES)
    prefix, lines = window.data[:PREFIX_BYTES], 0
    while window.data:
        lines += window.data.count(b"\n")
        window.replace(SKIP_BYTES)
    if window.fault:
        raise window.fault
    if prefix:
        begin = Position(offset=at.offset, row=at.row, line=line)
        end = Position(offset=window.offset + 1, row=at.row + 1, line=line + lines)
        yield RejectedChunk(start=begin, end=end, data=prefix, kind=Kind.MALFORMED_JSON, detail="text behind the end of the array")
