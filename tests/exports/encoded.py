"""A resource with every type, records of it as the driver gives them, and what a file of them must hold."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from penstock.exports.columns import Column
from penstock.exports.encoding import Encoder, encoder
from penstock.formats import open_reader
from penstock.formats.model import Format, Position, ReadOptions
from penstock.resources.model import Child, Field, FieldType, Resource, ResourceName
from penstock.sources import open_source
from tests.formats.support import Outcome, drain

THINGS = Resource(
    name=ResourceName("things"),
    table="things",
    fields=(
        Field("id", FieldType.UUID),
        Field("label", FieldType.STRING, max_length=10),
        Field("whole", FieldType.INTEGER),
        Field("exact", FieldType.NUMBER, precision=12, scale=2),
        Field("note", FieldType.STRING),
        Field("flag", FieldType.BOOLEAN),
        Field("moment", FieldType.DATETIME),
        Field("marks", FieldType.STRINGS),
    ),
    children=(
        Child(
            "parts",
            "parts",
            "thing_id",
            (
                Field("name", FieldType.STRING),
                Field("price", FieldType.NUMBER, precision=30, scale=12),
                Field("made_at", FieldType.DATETIME),
                Field("serial", FieldType.UUID),
                Field("words", FieldType.STRINGS),
            ),
        ),
    ),
)
COLUMNS = (*(Column(field.name, field) for field in THINGS.fields), Column("parts", child=THINGS.children[0]))
_ARROW = {FieldType.INTEGER: pa.int32(), FieldType.BOOLEAN: pa.bool_(), FieldType.DATETIME: pa.timestamp("us", "UTC")}
HOSTILE = (
    "", " ", "a,b", 'say "hi"', '"', '""', "'", "line\nline", "line\rline", "line\r\nline", "\n", "\r", "\t", ",", ";", "|",
    "\x01\x02\x08\x0c\x1b\x1f\x7f", "=1+1", "+49 30 1", "-1", "@x", "'=1+1", "''-1", "'tis", "\t=1", "\uff1dSUM(A1)", "\\N", "\\.",
    "\\", "\\n", "NULL", "null", "NaN", "{}", "}", "{", "[]", '{"a":1}', "0042", "1e5", "true", "_spreadsheet",
    "\U0001f600\u200d\U0001f9b0",
    "\u202eright\u200f", "\u2028\u2029\ufeff", "\ufeff", "\u00a0", "e\u0301", "日本語", "x" * 5000,
)  # fmt: skip
_MARK = "\\u0000"  # which no other text has, around numbers
Record = dict[str, Any]


def batch_of(records: Sequence[Record], columns: Sequence[Column] = COLUMNS) -> pa.RecordBatch:
    """`moment` is a datetime or the driver's number, STRINGS and children are Python values, NUMBER a text."""
    arrays = [pa.array([_stored(record.get(column.name), column) for record in records], _arrow_type(column)) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _arrow_type(column: Column) -> pa.DataType:
    return _ARROW.get(column.field.type, pa.string()) if column.field else pa.string()


def _stored(value: object, column: Column) -> object:
    if column.child:
        return json_text(value or [])
    return json_text(value) if isinstance(value, list) else value


def json_text(value: object) -> str:
    """As PostgreSQL writes it: nothing between values, numbers with their digits."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_digits)
    return text.replace(f'"{_MARK}', "").replace(f'{_MARK}"', "")


def _digits(value: object) -> str:
    assert isinstance(value, Decimal)
    return f"\0{value:f}\0"


def whole(encoding: Encoder, batches: Iterable[pa.RecordBatch]) -> bytes:
    return b"".join([encoding.head(), *(bytes(encoding.encode(batch)) for batch in batches), encoding.tail()])


def content(form: Format, records: Sequence[Record], *, sizes: Sequence[int] = (), spreadsheet: bool = False) -> bytes:
    """A file of the records, in batches of these sizes and one of what is left."""
    batches, rest = [], list(records)
    for size in sizes:
        batches.append(batch_of(rest[:size]))
        rest = rest[size:]
    return whole(encoder(form, COLUMNS, spreadsheet=spreadsheet), [*batches, batch_of(rest)])


def read_back(folder: Path, form: Format, data: bytes, options: ReadOptions | None = None) -> Outcome:
    """By the project's own reader."""
    path = folder / f"things.{form.value}"
    path.write_bytes(data)
    outcome = drain(open_reader(open_source(path), THINGS, options or ReadOptions()), Position())
    assert (outcome.error, outcome.broken, outcome.wrong) == (None, [], [])
    return outcome


def values_of(outcome: Outcome) -> list[Record]:
    """What the reader's texts mean, comparable with `meant`."""
    return [_plain({name: row.get(name) for name in THINGS.accepted}) for row in outcome.frame.to_dicts()] if outcome.ends else []


def meant(records: Iterable[Record]) -> list[Record]:
    return [_plain({**{name: record.get(name) for name in THINGS.accepted}, "parts": record.get("parts") or []}) for record in records]


def _items(value: Any) -> list[Any]:
    items = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
    return [_plain(item) if isinstance(item, dict) else item for item in items]


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _plain(record: Record) -> Record:
    return {name: _value(name, value) for name, value in record.items()}


_READ: dict[str, Callable[[Any], Any]] = {
    "marks": _items, "parts": _items, "words": _items, "moment": _moment, "made_at": _moment, "exact": Decimal, "price": Decimal,
    "flag": lambda value: str(value).lower(), "id": UUID, "serial": UUID,
}  # fmt: skip


def _value(name: str, value: Any) -> Any:
    return None if value is None else _READ.get(name, str)(value)
