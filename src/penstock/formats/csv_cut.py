"""Where a CSV may be cut: behind a line end outside quotes, with the number of records before it.

Fast: if every quote stands where one may open, close or be doubled, then the number of quotes before a line end says whether it is outside
quotes, and all of it is arithmetic over byte positions. Else the strict scan decides.
"""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from penstock.errors import TruncatedFileError
from penstock.formats.csv_grammar import Grammar, RecordEnd, scan
from penstock.formats.model import Chunk, Position, RejectedChunk
from penstock.formats.vector import CR, LF, QUOTE, count_of, line_count, octets
from penstock.formats.window import MOST_RECORDS, PREFIX_BYTES, SKIP_BYTES, Window
from penstock.resources.problems import Kind

LINE_END_BYTES = 2
MOST_POSITIONS = 1_500_000  # of quotes and line ends: each takes 4 bytes several times over


class Cut(NamedTuple):
    end: int  # bytes; 0: no record ends here yet
    records: int
    open_quote: bool = False  # the data are complete, and behind `end` stands a quoted cell that never ends


def find_cut(data: bytes, rules: Grammar, *, complete: bool) -> Cut:
    """`data` starts where a record may start. Not `complete`: more bytes may follow."""
    usable = data[:-1] if data.endswith(b"\r") and not complete else data  # an LF may follow that belongs to it
    quoted = b'"' in usable
    found = _quoted_cut(usable, rules, complete=complete) if quoted else _unquoted_cut(usable, complete=complete)
    if found and found.records <= MOST_RECORDS:
        return found
    scanned = scan(usable, rules, complete=complete, most=MOST_RECORDS)
    return Cut(scanned.stop, len(scanned.spans), open_quote=scanned.open_quote and complete)


def _unquoted_cut(data: bytes, *, complete: bool) -> Cut:
    end = len(data) if complete else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if not end:
        return Cut(0, 0)
    series = octets(data)
    ends = _line_ends(series, data)
    starts = ~ends & ends.shift(1, fill_value=True)
    # What stands behind the last line end is one more record; without `complete` it is not whole yet.
    return Cut(end, int(starts.sum()) - (1 if end < len(data) else 0))


def _quoted_cut(data: bytes, rules: Grammar, *, complete: bool) -> Cut | None:
    """None where the quotes do not obey, where the last one is never closed, or where positions take too much memory."""
    padded = b"\n" + data + b"\n"
    series = octets(padded)
    if count_of(series, LF) + count_of(series, CR) + count_of(series, QUOTE) > MOST_POSITIONS:
        return None
    quotes = (series == QUOTE).arg_true()
    if not _well_placed(series, quotes, rules.delimiter) or (complete and quotes.len() % 2):
        return None
    ends = _line_ends(series, padded).arg_true()
    outside = ends.filter(quotes.search_sorted(ends) % 2 == 0)
    if complete:
        last = len(data) + 1
    else:
        within = outside.filter(outside <= len(data))
        last = int(within[-1])
    before = outside.filter(outside < last)
    starts = ~_line_ends(series.gather(before + 1), padded)
    return Cut(min(last, len(data)), int(starts.sum()))


def quotes_obey(data: bytes, rules: Grammar) -> bool:
    """Every quote of whole records stands where one may: their number before a byte tells whether it is inside quotes."""
    if b'"' not in data:
        return True
    series = octets(b"\n" + data + b"\n")
    quotes = (series == QUOTE).arg_true()
    return quotes.len() % 2 == 0 and _well_placed(series, quotes, rules.delimiter)


class RecordIndex(NamedTuple):
    """Where the records of a chunk stand, as byte offsets in ascending order."""

    starts: pl.Series
    ends: pl.Series  # without line ends
    line_ends: pl.Series  # the last byte of each, CRLF counted once, those inside quotes too


def index_records(data: bytes, rules: Grammar) -> RecordIndex | None:
    """All records of a chunk that was cut at record ends, by arithmetic over byte positions; None where quotes do not obey."""
    padded = b"\n" + data + b"\n"
    series = octets(padded)
    is_end = _line_ends(series, padded)
    outside = is_end.arg_true()
    if b'"' in data:
        quotes = (series == QUOTE).arg_true()
        if quotes.len() % 2 or not _well_placed(series, quotes, rules.delimiter):
            return None
        outside = outside.filter(quotes.search_sorted(outside) % 2 == 0)
    # A record lies between two neighbouring ends with something in between; the padding put every position one further.
    between = pl.DataFrame({"start": outside[:-1], "end": outside[1:] - 1}).filter(pl.col("end") > pl.col("start"))
    lines = is_end if b"\r" not in data else is_end & ~((series == CR) & (series.shift(-1) == LF))
    return RecordIndex(between["start"], between["end"], lines.arg_true()[1:] - 1)


def _well_placed(series: pl.Series, quotes: pl.Series, delimiter: int) -> bool:
    """Counted from 0, even quotes open and odd ones close; a doubled quote is an odd one and the even one right behind it."""
    before_opening = series.gather(quotes.gather_every(2) - 1)
    behind_closing = series.gather(quotes.gather_every(2, 1) + 1)
    return _borders(before_opening, delimiter) and _borders(behind_closing, delimiter)


def _borders(bytes_: pl.Series, delimiter: int) -> bool:
    return bool(((bytes_ == delimiter) | (bytes_ == LF) | (bytes_ == QUOTE) | (bytes_ == CR)).all())


def _line_ends(series: pl.Series, data: bytes) -> pl.Series:
    return (series == LF) | (series == CR) if b"\r" in data else series == LF


def csv_chunks(window: Window, start: Position, rules: Grammar, *, chunk_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
    """Raises TruncatedFileError behind the last whole record if a quoted cell, or the stream, never ends."""
    at, wanted = start, chunk_bytes
    while True:
        window.fill(wanted)
        cut = find_cut(window.data, rules, complete=window.complete)
        if cut.end:
            data = window.data[: cut.end]
            end = Position(offset=at.offset + cut.end, row=at.row + cut.records, line=at.line + line_count(data))
            window.drop(cut.end)
            if cut.records:
                yield Chunk(start=at, end=end, data=data)
            at, wanted = end, chunk_bytes
        if cut.open_quote:
            raise _never_closed(at)
        if window.ended and (not window.data or (window.fault and not cut.end)):
            break
        if not cut.end:
            if len(window.data) > max_record_bytes + LINE_END_BYTES:
                skipped = _skip_record(window, at, rules, max_record_bytes)
                yield skipped
                at, wanted = skipped.end, chunk_bytes
            else:
                wanted = min(2 * max(len(window.data), chunk_bytes), max_record_bytes + LINE_END_BYTES + 1)
    if window.fault:
        raise window.fault


def _never_closed(at: Position) -> TruncatedFileError:
    return TruncatedFileError(f"the quoted cell that begins in the record at line {at.line} never ends", line=at.line, row=at.row)


def _skip_record(window: Window, at: Position, rules: Grammar, max_record_bytes: int) -> RejectedChunk:
    """Pass a record that is too large to be held, block by block.

    If its quoting turns out bad, it ends with its first line like any other bad record, and the text is read again from there.
    """
    window.settle()
    first, search, lines = window.data, RecordEnd(rules), 0
    while window.data:
        end = search.feed(window.data)
        if end is not None:
            lines += line_count(window.data[:end])
            window.drop(end)
            break
        if search.fault and search.first_line_end is not None:
            return _end_at_first_line(window, at, search, first, max_record_bytes)
        lines += line_count(window.data)
        window.replace(SKIP_BYTES)
    else:
        if window.fault:
            raise window.fault
        if search.in_quotes and not search.fault:
            raise _never_closed(at)
    end_at = Position(offset=window.offset, row=at.row + 1, line=at.line + lines)
    return _too_large(at, end_at, first, max_record_bytes)


def _end_at_first_line(window: Window, at: Position, search: RecordEnd, first: bytes, max_record_bytes: int) -> RejectedChunk:
    size, fault = search.first_line_end, search.fault
    assert size is not None
    assert fault is not None
    end = Position(offset=at.offset + size, row=at.row + 1, line=at.line + 1)
    window.rewind(end.offset)
    line = first[:size].rstrip(b"\r\n")
    if len(line) > max_record_bytes:
        return _too_large(at, end, first, max_record_bytes)
    return RejectedChunk(start=at, end=end, data=line, kind=Kind.MALFORMED_ROW, detail=fault)


def _too_large(start: Position, end: Position, first: bytes, max_record_bytes: int) -> RejectedChunk:
    return RejectedChunk(
        start=start, end=end, data=first[: min(PREFIX_BYTES, max_record_bytes)], kind=Kind.RECORD_TOO_LARGE, detail=str(max_record_bytes)
    )
