"""JSON text without a parser: how deep it nests, and how many keys it may have."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from penstock.formats.vector import COLON, CR, LF, QUOTE, octets

MAX_DEPTH = 64
MOST_POSITIONS = 2_000_000  # of brackets, 12 bytes each and more; with so many, elements are looked at one by one
_OPEN, _CLOSE = (0x5B, 0x7B), (0x5D, 0x7D)
_BRACKETS = re.compile(rb'[\[{]|[\]}]|"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_SPACED_KEY = re.compile(rb'"[ \t\r\n]++:')
_KEY = re.compile(rb'"[ \t\r\n]*+:')
_SPACE, _TAB = 32, 9


def key_count(data: bytes) -> int:
    """At least the number of keys of all objects in `data`: a quote and a colon may also meet inside a text."""
    if b'"' not in data:
        return 0
    series = octets(data)
    colons, before = series.slice(1) == COLON, series.slice(0, len(data) - 1)
    count = int((colons & (before == QUOTE)).sum())
    if (colons & ((before == _SPACE) | (before == _TAB) | (before == CR) | (before == LF))).any():
        count += sum(1 for _ in _SPACED_KEY.finditer(data))
    return count


def key_count_of_one(element: bytes) -> int:
    """`key_count` for a few bytes, where arithmetic over columns does not pay."""
    return sum(1 for _ in _KEY.finditer(element))


def too_deep(elements: Sequence[bytes | msgspec.Raw], data: bytes) -> set[int]:
    """Which elements of `data` nest deeper than MAX_DEPTH. To do so an element needs that many brackets within its own length."""
    series = octets(data)
    brackets = (series == _OPEN[0]) | (series == _OPEN[1])
    if brackets.sum() <= MOST_POSITIONS:
        opening = brackets.arg_true().cast(pl.Int64)
        spread = opening.diff(MAX_DEPTH).min()
        if spread is None or (isinstance(spread, int) and spread >= max(map(len, elements), default=0)):
            return set()
    return {index for index, element in enumerate(elements) if _is_too_deep(bytes(element))}


def _is_too_deep(element: bytes) -> bool:
    if element.count(b"[") + element.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for found in _BRACKETS.finditer(element):
        mark = found.group()
        if mark in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif mark in (b"]", b"}"):
            depth -= 1
    return False


class Level(NamedTuple):
    """What the brackets of a block say if none stands inside a text: a guess that a parser confirms."""

    end: int  # behind the last bracket that closes an element of the array
    depth: int  # the deepest nesting


def bracket_level(data: bytes) -> Level:
    """`data` starts inside an array, between two elements."""
    series = octets(data)
    opening = (series == _OPEN[0]) | (series == _OPEN[1])
    if opening.sum() > MOST_POSITIONS:
        return Level(0, MAX_DEPTH + 1)
    places = (opening | (series == _CLOSE[0]) | (series == _CLOSE[1])).arg_true()
    depth = (opening.gather(places).cast(pl.Int32) * 2 - 1).cum_sum()
    closed = (depth < 0).arg_true()
    if closed.len():
        depth = depth.head(int(closed[0]))
    level = (depth == 0).arg_true()
    deepest = depth.max()
    return Level(int(places[int(level[-1])]) + 1 if level.len() else 0, deepest if isinstance(deepest, int) else 0)
