"""Values that filters compare with: read as an import reads them, kept as canonical text."""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
import polars as pl

from penstock.resources.datetimes import datetime_reader
from penstock.resources.model import Field, FieldType
from penstock.resources.numbers import exact_decimal

MOST_DIGITS = 100  # of a number, before and after its point; no column holds as many, but a comparison may ask for more than a column holds
ITEM = Field("item", FieldType.STRING)  # what a list of texts holds

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}", re.ASCII)
_BOOLEANS = {"true": "true", "1": "true", "yes": "true", "false": "false", "0": "false", "no": "false"}
_DATETIMES = datetime_reader(None, None)
_TEXTS = msgspec.json.Decoder(list[str])


class Unfit(NamedTuple):
    """The field cannot hold the value; `allowed` says in words what it can."""

    allowed: str


def canonical_values(field: Field, texts: Sequence[str], *, declared: bool = True) -> list[str | Unfit]:
    """Each text in the one form that its value has, or why the field cannot hold it.

    UUIDs in lower case, booleans as true or false, numbers without exponent, moments in UTC, lists as compact JSON. Numbers may lie beyond
    the column's range. `declared`: a field with an enum takes only its members.
    """
    if field.type is FieldType.DATETIME:
        return _moments(texts)
    read = _READERS[field.type]
    return [_outside(field) if declared and field.enum and text not in field.enum else read(text) for text in texts]


def truth(text: str) -> str | Unfit:
    return _BOOLEANS.get(text.lower()) or Unfit("true or false (or yes, no, 1, 0)")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL's text can hold it: halves of surrogate pairs have no UTF-8, and NUL ends a text in C."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _outside(field: Field) -> Unfit:
    return Unfit(f"one of {', '.join(field.enum)}")


def _string(text: str) -> str | Unfit:
    return text if is_storable(text) else Unfit("a Unicode text without NUL")


def _uuid(text: str) -> str | Unfit:
    return text.lower() if _UUID.fullmatch(text) else Unfit("a UUID, such as 0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f")


def _integer(text: str) -> str | Unfit:
    return str(int(text)) if _INTEGER.fullmatch(text) else Unfit(f"a whole number of at most {MOST_DIGITS} digits")


def _number(text: str) -> str | Unfit:
    number = exact_decimal(text, 2 * MOST_DIGITS, MOST_DIGITS)
    if isinstance(number, Decimal):
        return f"{number:f}"
    return Unfit(f"a decimal number of at most {MOST_DIGITS} digits before and after the point")


def _strings(text: str) -> str | Unfit:
    try:
        items = _TEXTS.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        items = None
    if items is None or not all(map(is_storable, items)):
        return Unfit('a JSON array of texts without NUL, such as ["a","b"]')
    return msgspec.json.encode(items).decode()


def _moments(texts: Sequence[str]) -> list[str | Unfit]:
    """All at once: each call of the reader takes a millisecond however few the texts are."""
    unfit = Unfit(
        "an ISO 8601 date and time with a zone and at most microseconds, such as 2024-01-31T09:30:00Z (in a URL, + is written %2B)"
    )
    sound = [text if is_storable(text) else "" for text in texts]
    read = _DATETIMES.read(pl.Series(sound, dtype=pl.String))["value"]
    return [unfit if moment is None else moment.isoformat().replace("+00:00", "Z") for moment in read]


_READERS: dict[FieldType, Callable[[str], str | Unfit]] = {
    FieldType.STRING: _string,
    FieldType.UUID: _uuid,
    FieldType.INTEGER: _integer,
    FieldType.NUMBER: _number,
    FieldType.BOOLEAN: truth,
    FieldType.STRINGS: _strings,
}
