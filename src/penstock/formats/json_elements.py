"""Where the elements of a JSON array end: told by brackets and texts alone, so that a malformed element is still one element.

An element that is broken so badly that its end does not show (a bracket or a quote is missing) ends before the next line that begins as its
own line did, up to the opening brace: files that hold one record per line, or indent them, lose that one record and not all that follow.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from penstock.formats.window import MOST_RECORDS

OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT, COMMA, QUOTE, BACKSLASH = b'[]{},"\\'
SPACE = b" \t\r\n"

_TEXT = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+'  # JSON's texts hold no line ends
# Python before 3.11.5 forgets where it was when a possessive repetition inside another one fails (gh-106052), so the outer repetition
# is a plain one; its count bounds what that remembers.
_TEXTS = 4096
_FLAT = re.compile(rb'[^"\[\]{},]*+(?:' + _TEXT + rb'"[^"\[\]{},]*+){0,%d}' % _TEXTS)  # towards a comma or a bracket
_NESTED = re.compile(rb'[^"\[\]{}]*+(?:' + _TEXT + rb'"[^"\[\]{}]*+){0,%d}' % _TEXTS)  # towards a bracket
_OPENING = re.compile(rb"[\[{]++")
_OPEN_TEXT = re.compile(_TEXT)
_SPACES = re.compile(rb"[ \t\r\n]*+")


class Span(NamedTuple):
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ElementScan:
    spans: list[Span]
    stop: int  # behind the last whole element, before what separates it from the next
    closed: int | None  # behind the bracket that closes the array, where it was reached


@dataclass(frozen=True, slots=True)
class Extent:
    """What is known about the bytes at hand."""

    first: bool  # they start behind the array's opening bracket, not behind an element
    ended: bool  # nothing follows
    limit: int  # bytes of the largest element that is held


def scan_elements(data: bytes, extent: Extent) -> ElementScan:
    spans: list[Span] = []
    stop, size = 0, len(data)
    while (begin := skip_space(data, stop)) < size and len(spans) < MOST_RECORDS:
        if data[begin] == CLOSE_LIST:
            return ElementScan(spans, stop, begin + 1)
        if data[begin] == COMMA and not (extent.first and not spans):
            begin = skip_space(data, begin + 1)
            if begin == size:
                break
        end = _element_end(data, begin, extent)
        if end is None:
            break
        spans.append(Span(begin, max(begin, _trimmed(data, end))))
        stop = end
    return ElementScan(spans, stop, None)


def skip_space(data: bytes, at: int) -> int:
    found = _SPACES.match(data, at)
    assert found is not None
    return found.end()


def _trimmed(data: bytes, end: int) -> int:
    while end and data[end - 1] in SPACE:
        end -= 1
    return end


def _element_end(data: bytes, start: int, extent: Extent) -> int | None:
    """Where the element at `start` ends: at the comma or bracket behind it; None if more bytes are needed to tell."""
    nesting = bytearray()  # the brackets that are open: one byte each, for files of brackets only
    at, bound, broken = start, len(data), False
    while True:
        at = _behind_whole_texts(_NESTED if nesting else _FLAT, data, at, bound)
        if at >= bound:
            return bound if bound < len(data) else _unfinished(data, start, nesting, extent)
        mark = data[at]
        if mark == QUOTE:
            at = _behind_open_text(data, at)
            if at >= len(data):
                return _unfinished(data, start, bytearray(b'"'), extent)
            if not broken:
                broken, bound = True, _resumption(data, start, extent) or bound
            at = min(at, bound)
        elif not nesting and mark in (COMMA, CLOSE_LIST):
            return at
        elif mark == CLOSE_LIST and OPEN_LIST not in nesting:
            return _closed_too_early(data, start, at, extent)
        elif opened := _OPENING.match(data, at):
            nesting += opened.group()
            at = opened.end()
        else:
            _close(nesting, mark)
            at += 1


def _behind_whole_texts(pattern: re.Pattern[bytes], data: bytes, at: int, bound: int) -> int:
    while True:
        found = pattern.match(data, at, bound)
        assert found is not None
        if found.end() == at:
            return at
        at = found.end()


def _closed_too_early(data: bytes, start: int, at: int, extent: Extent) -> int | None:
    """The end of an element with objects left open at the bracket `at`: its own fault if the array goes on, else the array's end."""
    resumed = _resumption(data, start, extent)
    if resumed is not None:
        return resumed
    return at if extent.ended or len(data) - start > extent.limit else None


def _close(nesting: bytearray, mark: int) -> None:
    opened = nesting.rfind(bytes((OPEN_LIST if mark == CLOSE_LIST else OPEN_OBJECT,)))
    if opened >= 0:
        del nesting[opened:]


def _behind_open_text(data: bytes, at: int) -> int:
    """Behind the line end that breaks off the text at `at`, or the end of the data."""
    found = _OPEN_TEXT.match(data, at)
    assert found is not None
    end = found.end()
    return end + 2 if data[end : end + 1] == b"\\" else end + 1 if end < len(data) else end


def _unfinished(data: bytes, start: int, nesting: bytearray, extent: Extent) -> int | None:
    """The end of an element that goes on to the end of the data."""
    size = len(data)
    if nesting and (extent.ended or size - start > extent.limit):
        resumed = _resumption(data, start, extent)
        if resumed is not None:
            return resumed
    closed = _trimmed(data, size)
    is_whole = extent.ended and not nesting and closed > start and data[closed - 1] in (CLOSE_LIST, CLOSE_OBJECT)
    return closed if is_whole else None


def _resumption(data: bytes, start: int, extent: Extent) -> int | None:
    """The end of a broken element: before the next line that begins as the element's own line does."""
    line = data.rfind(b"\n", 0, start)
    prefix = data[line + 1 : start]
    if data[start : start + 1] != b"{" or prefix.strip(b" \t\r,") or (line < 0 and not extent.first):
        return None
    place = data.find(b"\n" + prefix + b"{", start, start + extent.limit)
    if place < 0:
        return None
    end = _trimmed(data, place)
    return end - 1 if data[end - 1] == COMMA else end


class ElementEnd:
    """Finds the end of an element that is too large to be held, block after block."""

    _MARK = re.compile(rb'["\[\]{},]')
    _BRACKET = re.compile(rb'["\[\]{}]')
    _INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False  # the block before ended with a backslash

    def feed(self, block: bytes) -> int | None:
        """Where in `block` the comma or bracket behind the element stands."""
        at = 1 if self._escaped else 0
        self._escaped = False
        while at < len(block):
            if self._in_text:
                at = self._leave_text(block, at)
                continue
            found = (self._BRACKET if self._depth else self._MARK).search(block, at)
            if found is None:
                return None
            mark, at = block[found.start()], found.end()
            if mark == QUOTE:
                self._in_text = True
            elif opened := _OPENING.match(block, found.start()):
                self._depth += len(opened.group())
                at = opened.end()
            elif not self._depth and mark in (COMMA, CLOSE_LIST):
                return found.start()
            else:
                self._depth = max(0, self._depth - 1)
        return None

    def _leave_text(self, block: bytes, at: int) -> int:
        found = self._INSIDE.match(block, at)
        assert found is not None
        end = found.end()
        if end < len(block):
            self._in_text = block[end] != QUOTE
            self._escaped = block[end] == BACKSLASH
        return end + 1
