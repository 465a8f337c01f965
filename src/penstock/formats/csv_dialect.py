"""What a CSV file looks like: its delimiter, its header, its line ends. Found once, before the first record."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from penstock.errors import EmptyFileError, InvalidOptionError, TruncatedFileError, UnknownFormatError
from penstock.formats.columns import shown
from penstock.formats.csv_grammar import LINE_END, Grammar, cells_of, grammar, scan
from penstock.formats.vector import is_utf8, line_count
from penstock.formats.window import Window

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_BYTES = 64 * 1024
SAMPLE_RECORDS = 100
_SEPARATOR_LINE = re.compile(rb'"?[sS][eE][pP]=(.)"?(?:\r\n|\n|\r)')  # what Excel writes and reads
_QUOTED = re.compile(r'"[^"]*"')


class Header(NamedTuple):
    columns: tuple[str, ...]
    delimiter: str
    line_end: str
    size: int  # bytes up to the first record
    lines: int


def read_header(window: Window, *, delimiter: str | None, known: Collection[str], max_bytes: int) -> Header:
    """`known` names, if the header has them, tell a delimiter better than any count. Leaves the window as it is but for what it holds.

    Raises EmptyFileError, TruncatedFileError, UnknownFormatError, InvalidOptionError.
    """
    if delimiter is not None:
        check_delimiter(delimiter)
    window.fill(SAMPLE_BYTES)
    window.settle()
    before = 0
    if declared := _SEPARATOR_LINE.match(window.data):
        before = declared.end()
        delimiter = delimiter or _declared(declared.group(1))
    delimiter = delimiter or sniff(_sample(window.data[before:], cut=not window.complete), known)
    record, end = _first_record(window, before, grammar(delimiter), max_bytes)
    cells = cells_of(record, grammar(delimiter))
    if not is_utf8(record):
        raise UnknownFormatError("the header is not valid text in the file's encoding; give encoding=, for instance latin-1 or cp1252")
    if cells is None:
        raise UnknownFormatError("the header's quoting is not well-formed, so its columns cannot be told")
    columns = tuple(shown(text.decode().strip(" \t\ufeff")) for text, _ in cells)
    return Header(columns, delimiter, _line_end(window.data), end, line_count(window.data[:end]))


def check_delimiter(delimiter: str) -> None:
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise InvalidOptionError(f"delimiter must be one ASCII character and no quote or line end, not {delimiter!r}", delimiter=delimiter)


def sniff(records: Sequence[str], known: Collection[str]) -> str:
    """The delimiter that finds known names in the header, else the one that most records agree about; a comma if there is none."""
    scores = {mark: _score(records, mark, known) for mark in DELIMITERS}
    best = max(DELIMITERS, key=lambda mark: scores[mark])  # the first of equals
    return best if any(scores[best]) else ","


def _score(records: Sequence[str], mark: str, known: Collection[str]) -> tuple[int, float, int]:
    if not records:
        return 0, 0.0, 0
    names = {cell.strip(' \t"\ufeff') for cell in records[0].split(mark)}
    counts = [_QUOTED.sub("", record).count(mark) for record in records]
    if not counts[0]:
        return 0, 0.0, 0
    agreeing = Counter(counts)[counts[0]] / len(counts)
    return len(names.intersection(known)), agreeing, counts[0]


def _sample(data: bytes, *, cut: bool) -> list[str]:
    """The first records as text, split at line ends outside quotes without knowing the delimiter."""
    text = data.decode("utf-8", "replace")
    records, held = [], ""
    for line in re.split(r"\r\n|\n|\r", text):
        held += line
        if held.count('"') % 2 == 0:
            if held:
                records.append(held)
            held = ""
        if len(records) > SAMPLE_RECORDS:
            break
    else:
        records += [held] if held else []
        records = records[:-1] if cut and len(records) > 1 else records
    return records[:SAMPLE_RECORDS]


def _declared(mark: bytes) -> str:
    delimiter = mark.decode("ascii", "replace")
    check_delimiter(delimiter)
    return delimiter


def _first_record(window: Window, before: int, rules: Grammar, max_bytes: int) -> tuple[bytes, int]:
    while True:
        data = window.data[before:]
        found = scan(data, rules, complete=window.complete)
        if found.spans:
            start, end, _ = found.spans[0]
            line_end = LINE_END.match(data, end)
            return data[start:end], before + (line_end.end() if line_end else end)
        if window.fault:
            raise window.fault
        if window.ended:
            if found.open_quote:
                raise TruncatedFileError("the header has a quoted cell that never ends")
            raise EmptyFileError("the file is empty: it has no header and no records")
        if len(data) > max_bytes:
            raise UnknownFormatError(f"the header is longer than {max_bytes} bytes; is this a CSV file?")
        window.fill(2 * len(window.data))
        window.settle()


def _line_end(data: bytes) -> str:
    if b"\r\n" in data:
        return "\r\n"
    return "\r" if b"\r" in data and b"\n" not in data else "\n"
