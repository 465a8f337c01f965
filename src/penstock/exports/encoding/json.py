"""Records as JSON: one object on a line, or an array of such lines.

No record holds a line end: JSON text has them only escaped, and what PostgreSQL makes of lists and children has none between values.
"""

import json
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from itertools import groupby

import polars as pl
import pyarrow as pa

from penstock.exports.columns import Column
from penstock.exports.encoding.texts import bytes_of, texts_of, type_of
from penstock.resources.model import FieldType

_WORD = "^-?[NI]"  # of NaN, Infinity and -Infinity


class _Way(Enum):
    """How a column's texts become JSON values, by what they may hold."""

    READY = auto()  # they are JSON
    DIGITS = auto()  # they are JSON but for NaN and infinity, which want quotes
    PLAIN = auto()  # nothing to escape: they only want quotes, which is twice as fast as the encoder
    ENCODED = auto()


_WAYS = {
    FieldType.NUMBER: _Way.DIGITS,
    FieldType.STRINGS: _Way.READY,
    None: _Way.READY,
    FieldType.UUID: _Way.PLAIN,
    FieldType.DATETIME: _Way.PLAIN,
}


class NdjsonEncoder:
    media_type = "application/x-ndjson"
    ending = "ndjson"

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def head(self) -> bytes:
        return b""

    def encode(self, batch: pa.RecordBatch) -> memoryview:
        return _objects(batch, self._columns, behind="\n")

    def tail(self) -> bytes:
        return b""


class JsonEncoder:
    media_type = "application/json"
    ending = "json"

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._begun = False

    def head(self) -> bytes:
        return b"["

    def encode(self, batch: pa.RecordBatch) -> memoryview:
        objects = _objects(batch, self._columns, before=",\n")
        if self._begun or not objects:
            return objects
        self._begun = True
        return objects[1:]  # no comma before the first

    def tail(self) -> bytes:
        return b"\n]\n" if self._begun else b"]\n"


def _objects(batch: pa.RecordBatch, columns: Sequence[Column], *, before: str = "", behind: str = "") -> memoryview:
    frame = texts_of(batch, columns)
    pieces = [before + "{", *_members(columns, frame), "}" + behind]
    return bytes_of(frame.select(pl.concat_str(_expressions(pieces))).to_series())


def _members(columns: Sequence[Column], frame: pl.DataFrame) -> Iterator[str | pl.Expr]:
    """What stands between the braces: literals, and expressions that are never null."""
    comma = ""
    for way, run in groupby(columns, key=lambda column: _WAYS.get(type_of(column), _Way.ENCODED)):
        names = [column.name for column in run]
        if way is _Way.ENCODED:
            yield comma
            yield pl.struct(names).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")
            comma = ","
            continue
        for name in names:
            yield f"{comma}{json.dumps(name)}:"
            yield from _value(way, name, frame[name])
            comma = ","


def _value(way: _Way, name: str, texts: pl.Series) -> Iterator[str | pl.Expr]:
    text = pl.col(name)
    quoted = pl.concat_str(pl.lit('"'), text, pl.lit('"'))
    if way is _Way.PLAIN and not texts.null_count():
        yield '"'
        yield text
        yield '"'
    elif way is _Way.PLAIN:
        yield quoted.fill_null("null")
    elif way is _Way.DIGITS and texts.str.contains(_WORD).any():
        yield pl.when(text.str.contains(_WORD)).then(quoted).otherwise(text).fill_null("null")
    else:
        yield text.fill_null("null")


def _expressions(pieces: Sequence[str | pl.Expr]) -> Iterator[pl.Expr]:
    """Neighbouring literals as one: each piece costs a pass."""
    for is_literal, run in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if is_literal:
            yield pl.lit("".join(str(piece) for piece in run))
        else:
            yield from (piece for piece in run if isinstance(piece, pl.Expr))
