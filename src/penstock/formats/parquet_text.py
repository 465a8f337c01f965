"""Arrow columns as the text that the same values have in a CSV or JSON file, exactly."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

UUID_BYTES = 16
_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


def text_of(column: pa.ChunkedArray) -> tuple[pl.Series, list[int]]:
    """The column as Strings, and the places whose bytes are no text (null there).

    Timestamps become ISO 8601, in UTC with Z if they carry a zone, with as many digits of a second as they need; decimals and integers keep
    their digits, floats the fewest that mean the same number; lists, structs and maps become JSON.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return (
            _uuid_text(column.cast(kind.storage_type))
            if str(kind.extension_name) == "arrow.uuid"
            else text_of(column.cast(kind.storage_type))
        )
    if types.is_dictionary(kind):
        return text_of(column.cast(kind.value_type))
    for fits, convert in _CONVERTERS:
        if fits(kind):
            return convert(column)
    return _strings(column.cast(pa.string())), []


def _strings(column: pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series.cast(pl.String)


def _text(column: pa.ChunkedArray) -> tuple[pl.Series, list[int]]:
    """Strings, which Parquet readers take unseen, and plain bytes, which old writers mean as strings."""
    strings = column.cast(pa.large_binary()).cast(pa.large_string(), safe=False)
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        return _checked_text(column.cast(pa.large_binary()).to_pylist())
    return _strings(strings), []


def _checked_text(values: list[bytes | None]) -> tuple[pl.Series, list[int]]:
    texts: list[str | None] = []
    undecodable = []
    for place, value in enumerate(values):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            undecodable.append(place)
    return pl.Series(texts, dtype=pl.String), undecodable


def _fixed_bytes(column: pa.ChunkedArray) -> tuple[pl.Series, list[int]]:
    return _uuid_text(column) if column.type.byte_width == UUID_BYTES else _text(column.cast(pa.binary()))


def _uuid_text(column: pa.ChunkedArray) -> tuple[pl.Series, list[int]]:
    digits = _series(column.cast(pa.binary())).bin.encode("hex")
    parts = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    joined = pl.select(pl.concat_str([pl.lit(part) for part in parts], separator="-"))
    return joined.to_series(), []


def _series(column: pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series


def _timestamp(column: pa.ChunkedArray) -> tuple[pl.Series, list[int]]:
    kind = column.type
    moments = column.cast(pa.timestamp(kind.unit, "UTC")) if kind.tz else column
    text = pc.replace_substring(moments.cast(pa.string()), " ", "T", max_replacements=1)
    return _strings(pc.replace_substring_regex(text, r"\.?0*(Z?)$", r"\1") if kind.unit != "s" else text), []


def _json(column: pa.ChunkedArray) -> tuple[pl.Series, list[int]]:
    values = [None if value is None else _encode(_plain(value, column.type)).decode() for value in column.to_pylist()]
    return pl.Series(values, dtype=pl.String), []


def _plain(value: Any, kind: pa.DataType) -> Any:
    """As JSON has it: a map is an object, bytes are text, and what is no JSON number stays visible as text."""
    if value is None:
        return None
    if types.is_map(kind):
        return {str(key): _plain(item, kind.item_type) for key, item in value}
    if types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if types.is_nested(kind):
        return [_plain(item, kind.value_type) for item in value]
    return _leaf(value)


def _leaf(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


_Converter = Callable[[pa.ChunkedArray], tuple[pl.Series, list[int]]]
_CONVERTERS: tuple[tuple[Callable[[pa.DataType], bool], _Converter], ...] = (
    (types.is_fixed_size_binary, _fixed_bytes),
    (types.is_string, _text),
    (types.is_large_string, _text),
    (types.is_string_view, _text),
    (types.is_binary, _text),
    (types.is_large_binary, _text),
    (types.is_binary_view, _text),
    (types.is_timestamp, _timestamp),
    (types.is_nested, _json),
)
