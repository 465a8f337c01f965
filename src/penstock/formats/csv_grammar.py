r"""RFC 4180, strictly, one record at a time: the truth that the vectorised paths must agree with.

A quote opens only at the start of a cell and closes only before a delimiter or a line end; inside, two quotes mean one. LF, CRLF and CR
end a record outside quotes. A record that breaks these rules is bad, ends with its first physical line, and costs only itself: a stray
quote must not swallow the rows after it.

Looking for the end of a stray quote costs no more than reading twice. Every line between such a quote and the next odd run of quotes holds
even runs only, and such a line, read from its own start, ends within itself.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from penstock.formats.vector import CR, LF, QUOTE

LINE_END = re.compile(rb"\r\n|\n|\r")
BLANK = re.compile(rb"[\r\n]*+")
QUOTE_IN_CELL = "a quote inside an unquoted cell"
BAD_CLOSE = "a quoted cell that does not end where a cell may end"


class Span(NamedTuple):
    """Bytes `start` to `end` are a record without its line end; `fault` says what is wrong with its quoting."""

    start: int
    end: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class Scan:
    spans: list[Span]
    stop: int  # up to here the records are whole; what follows needs more bytes, or `open_quote`
    open_quote: bool  # what follows begins with a record whose quoted cell is not closed


@dataclass(frozen=True, slots=True)
class Grammar:
    """The expressions for one delimiter. All are possessive: no backtracking, whatever the bytes."""

    delimiter: int
    record: re.Pattern[bytes]  # up to and with its line end, or the end of the data
    cells: re.Pattern[bytes]  # whole cells, each with the delimiter behind it
    first: re.Pattern[bytes]  # one such cell
    quoted: re.Pattern[bytes]
    plain: re.Pattern[bytes]


@lru_cache(maxsize=16)
def grammar(delimiter: str) -> Grammar:
    mark = re.escape(delimiter.encode())
    quoted = rb'"[^"]*+(?:""[^"]*+)*+"'
    plain = rb'[^"\r\n' + mark + rb"]*+"
    cell = b"(?:" + quoted + b"|" + plain + b")"
    cells = b"(?:" + cell + mark + b")*+"
    return Grammar(
        delimiter=ord(delimiter),
        record=re.compile(b"(" + cells + cell + rb")(?:\r\n|\n|\r|\Z)"),
        cells=re.compile(cells),
        first=re.compile(cell + mark),
        quoted=re.compile(quoted),
        plain=re.compile(plain),
    )


def scan(data: bytes, rules: Grammar, *, complete: bool, most: int | None = None) -> Scan:
    """Every record of `data` (or the first `most`), which starts where a record may start.

    Not `complete`: more bytes may follow; the last of these is no CR.
    """
    spans: list[Span] = []
    at, size = 0, len(data)
    while True:
        found = BLANK.match(data, at)
        assert found is not None
        at = found.end()
        if at == size or len(spans) == most:
            return Scan(spans, at, open_quote=False)
        whole = rules.record.match(data, at)
        if whole and (complete or data[whole.end() - 1] in (LF, CR)):
            spans.append(Span(at, whole.end(1), None))
            at = whole.end()
            continue
        fault, open_quote = _fault(data, at, rules, complete=complete)
        line_end = LINE_END.search(data, at)
        if fault is None or (line_end is None and not complete):
            return Scan(spans, at, open_quote=open_quote)
        spans.append(Span(at, line_end.start() if line_end else size, fault))
        at = line_end.end() if line_end else size


def _fault(data: bytes, start: int, rules: Grammar, *, complete: bool) -> tuple[str | None, bool]:
    """What is wrong with the record at `start`, which is not good so far, unless more bytes may mend it; is a quote open?"""
    found = rules.cells.match(data, start)
    assert found is not None
    at = found.end()
    if data[at : at + 1] == b'"':
        cell = rules.quoted.match(data, at)
        if cell is None:
            return None, True
        return BAD_CLOSE if complete or cell.end() < len(data) else None, False
    cell = rules.plain.match(data, at)
    assert cell is not None
    return QUOTE_IN_CELL if data[cell.end() : cell.end() + 1] == b'"' else None, False


def scan_chunk(data: bytes, rules: Grammar) -> list[Span]:
    """The records of a chunk that was cut at record ends.

    A stray quote may have been judged by bytes that are not in this chunk. That it is still open at the end says the same: the cutter
    would have cut behind its record otherwise.
    """
    spans: list[Span] = []
    base = 0
    while True:
        found = scan(data[base:], rules, complete=True)
        spans += [Span(start + base, end + base, fault) for start, end, fault in found.spans]
        if not found.open_quote:
            return spans
        start = base + found.stop
        line_end = LINE_END.search(data, start)
        spans.append(Span(start, line_end.start() if line_end else len(data), BAD_CLOSE))
        base = line_end.end() if line_end else len(data)


def cells_of(record: bytes, rules: Grammar) -> list[tuple[bytes, bool]] | None:
    """The cells of one record without its line end, unescaped, and whether each was quoted; None if its quoting is bad."""
    cells: list[tuple[bytes, bool]] = []
    at = 0
    while True:
        is_quoted = record[at : at + 1] == b'"'
        found = (rules.quoted if is_quoted else rules.plain).match(record, at)
        if found is None:
            return None
        text = found.group()
        cells.append((text[1:-1].replace(b'""', b'"') if is_quoted else text, is_quoted))
        at = found.end()
        if at == len(record):
            return cells
        if record[at] != rules.delimiter:
            return None
        at += 1


class RecordEnd:
    """Finds the end of a record that is too large to be held, block after block. No CRLF is split between blocks."""

    _LINE_OR_QUOTE = re.compile(rb'["\r\n]')
    _INSIDE = re.compile(rb'[^"]*+(?:""[^"]*+)*+')

    def __init__(self, rules: Grammar) -> None:
        self._delimiter = rules.delimiter
        self._closing = False  # behind a quote that closes the cell or is the first of two
        self._previous = rules.delimiter  # the byte before this block; a record starts as a cell does
        self._passed = 0
        self.in_quotes = False
        self.first_line_end: int | None = None  # bytes from the record's start to behind its first line end
        self.fault: str | None = None  # once set, the record ends with its first line

    def feed(self, block: bytes) -> int | None:
        """Where a good record ends in `block`, behind its line end; None if it goes on or is at fault."""
        if self.first_line_end is None and (b"\n" in block or b"\r" in block) and (line_end := LINE_END.search(block)):
            self.first_line_end = self._passed + line_end.end()
        end = None if self.fault else self._search(block)
        self._passed += len(block)
        self._previous = block[-1]
        return end

    def _search(self, block: bytes) -> int | None:
        if not (self._closing or b'"' in block or (not self.in_quotes and (b"\n" in block or b"\r" in block))):
            return None  # asked first because it is ten times as fast: most of a record that is too large is such blocks
        at, size = 0, len(block)
        while at < size and self.fault is None:
            if self._closing:
                at = self._settle_quote(block, at)
            elif self.in_quotes:
                at = self._leave_quotes(block, at)
            elif (found := self._LINE_OR_QUOTE.search(block, at)) is None:
                return None
            elif found.group() != b'"':
                line_end = LINE_END.match(block, found.start())
                assert line_end is not None
                return line_end.end()
            else:
                at = self._enter_quotes(block, found.start())
        return None

    def _enter_quotes(self, block: bytes, at: int) -> int:
        if (block[at - 1] if at else self._previous) != self._delimiter:
            self.fault = QUOTE_IN_CELL
        self.in_quotes = True
        return at + 1

    def _leave_quotes(self, block: bytes, at: int) -> int:
        found = self._INSIDE.match(block, at)
        assert found is not None
        if found.end() == len(block):
            return found.end()
        self.in_quotes, self._closing = False, True
        return found.end() + 1

    def _settle_quote(self, block: bytes, at: int) -> int:
        self._closing = False
        if block[at] == QUOTE:
            self.in_quotes = True
            return at + 1
        if block[at] not in (self._delimiter, LF, CR):
            self.fault = BAD_CLOSE
        return at
