"""Error records as a file's bytes: NDJSON, JSON or CSV, piece by piece, with flat memory."""

import csv
import io
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

COLUMNS = ("row", "line", "type", "code", "field", "value", "message", "record")
PIECE_BYTES = 256 * 1024


class ReportFormat(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"
    JSON = "json"

    @property
    def media_type(self) -> str:
        return {"ndjson": "application/x-ndjson", "csv": "text/csv", "json": "application/json"}[self.value]


def encoded(records: Iterable[dict[str, Any]], form: ReportFormat) -> Iterator[bytes]:
    """The report in pieces of about PIECE_BYTES, or one record where that is larger."""
    piece = bytearray()
    for part in {ReportFormat.NDJSON: _ndjson, ReportFormat.JSON: _json, ReportFormat.CSV: _csv}[form](records):
        piece += part
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _ndjson(records: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for record in records:
        yield msgspec.json.encode(record) + b"\n"


def _json(records: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    before = b"[\n"
    for record in records:
        yield before + msgspec.json.encode(record)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _csv(records: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """RFC 4180, UTF-8. The record is a cell of JSON; no value is an empty cell."""
    yield _line(COLUMNS)
    for record in records:
        yield _line([_cell(name, record.get(name)) for name in COLUMNS])


def _line(cells: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(name: str, value: Any) -> Any:
    return msgspec.json.encode(value).decode() if name == "record" or isinstance(value, dict | list | bool) else value
