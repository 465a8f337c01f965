"""One field of many JSON records as a column of text, with what the records hold beside it counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from penstock.formats.json_fields import Shape
from penstock.formats.json_scan import key_count, key_count_of_one

_SEPARATOR = b"\x1e"  # no JSON text holds a raw control character
_NUMBERS = b"0123456789+-.eE" + b"nul" + _SEPARATOR
_BOOLEANS = _NUMBERS + b"truefalse"
_decode_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Built:
    """`present` records hold the key, and their values hold `keys` keys themselves. `wrong`: place and JSON text of what does not fit."""

    series: pl.Series
    present: int
    keys: int
    wrong: list[tuple[int, str]]


def build(name: str, values: list[Any], shape: Shape) -> Built:
    """`values`: `str | None | UNSET` for a text, else Raw, empty where the key is absent."""
    return _text_column(name, values) if shape is Shape.TEXT else _raw_column(name, values, shape)


def counted(values: Sequence[msgspec.Raw]) -> tuple[int, int]:
    """How many of these records hold a key that the resource does not have, and how many keys its values hold."""
    joined = _SEPARATOR.join(values)
    return sum(map(bool, values)), key_count(joined)


def keys_per_record(values: list[Any], *, is_text: bool) -> list[int]:
    """How many keys of its record each value accounts for: its own, and those inside."""
    if is_text:
        return [0 if value is msgspec.UNSET else 1 for value in values]
    return [1 + key_count_of_one(bytes(value)) if value else 0 for value in values]


def _text_column(name: str, values: list[Any]) -> Built:
    try:
        return Built(pl.Series(name, values, dtype=pl.String), len(values), 0, [])
    except (TypeError, ValueError):  # some are UNSET: asked only now, because looking for it costs more than building the column
        texts = [None if value is msgspec.UNSET else value for value in values]
        return Built(pl.Series(name, texts, dtype=pl.String), len(values) - values.count(msgspec.UNSET), 0, [])


def _raw_column(name: str, values: list[msgspec.Raw], shape: Shape) -> Built:
    if not any(values):
        return Built(pl.Series(name, [None] * len(values), dtype=pl.String), 0, 0, [])
    joined = _SEPARATOR.join(values)
    texts = joined.decode().split("\x1e")
    present, keys = len(texts) - texts.count(""), key_count(joined)
    if shape.is_list:
        return _list_column(name, texts, present, keys)
    if not joined.translate(None, _NUMBERS if shape is Shape.NUMBER else _BOOLEANS):
        return Built(_nulled(name, texts), present, keys, [])
    wrong: list[tuple[int, str]] = []
    cells = [_scalar(text, shape, place, wrong) for place, text in enumerate(texts)]
    return Built(pl.Series(name, cells, dtype=pl.String), present, keys, wrong)


def _nulled(name: str, texts: list[str]) -> pl.Series:
    series = pl.Series(name, texts, dtype=pl.String)
    absent = (series == "") | (series == "null")
    return series.set(absent, None) if absent.any() else series


def _list_column(name: str, texts: list[str], present: int, keys: int) -> Built:
    series = _nulled(name, texts)
    unfit = ~series.str.starts_with("[").fill_null(value=True)
    places = unfit.arg_true().to_list()
    return Built(series.set(unfit, None) if places else series, present, keys, [(place, texts[place]) for place in places])


def _scalar(text: str, shape: Shape, place: int, wrong: list[tuple[int, str]]) -> str | None:
    if not text or text == "null":
        return None
    if text[0] == '"':
        return _decode_text(text)
    if text[0] in "[{" or (shape is Shape.NUMBER and text[0] in "tf"):
        wrong.append((place, text))
        return None
    return text
