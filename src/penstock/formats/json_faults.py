"""What is wrong with a JSON record that could not be read as the resource's, and what can be read of it nevertheless."""

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.formats.columns import shown
from penstock.formats.json_fields import Column, Shape
from penstock.resources.problems import Kind

_AT_BYTE = re.compile(r" \(byte (\d+)\)$")
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*+(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
_NOT_JSON = re.compile(rb"-?(NaN|Infinity)")
_NAMES = {ord("["): "an array", ord('"'): "a text", ord("t"): "a boolean", ord("f"): "a boolean", ord("n"): "null"}
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    detail: str


@dataclass(frozen=True, slots=True)
class Mended:
    """A record whose values of a wrong type were left out: `wrong` holds the column and the JSON text of each."""

    values: dict[str, Any]
    wrong: list[tuple[Column, str]]


def read_object(element: bytes) -> dict[str, msgspec.Raw] | Fault:
    if not element.strip():
        return Fault(Kind.MALFORMED_JSON, "nothing stands where a record should")
    try:
        return _decode_object(element)
    except msgspec.ValidationError:
        return Fault(Kind.NOT_AN_OBJECT, _NAMES.get(element.lstrip()[0], "a number"))
    except (msgspec.DecodeError, RecursionError) as fault:
        return Fault(Kind.MALFORMED_JSON, _reason(element, str(fault)))


def mend(element: bytes, columns: tuple[Column, ...]) -> Mended | Fault:
    whole = read_object(element)
    if isinstance(whole, Fault):
        return whole
    values: dict[str, Any] = {}
    wrong = []
    for column in columns:
        raw = whole.get(column.key)
        if raw is None:
            continue
        if column.shape is not Shape.TEXT:
            values[column.attribute] = raw
            continue
        text = bytes(raw)
        values[column.attribute] = _decode_text(raw) if text.startswith(b'"') else None
        if text != b"null" and not text.startswith(b'"'):
            wrong.append((column, text.decode()))
    return Mended(values, wrong)


def keys_of(element: bytes) -> list[str]:
    """The top-level keys as they come, repeated ones too. `element` is a well-formed object."""
    # Numbers stay text: Python refuses to make an int of more than 4300 digits.
    pairs = json.loads(element.decode(), object_pairs_hook=list, parse_int=str, parse_float=str)
    return [key for key, _ in pairs]


def repeated_key(keys: list[str]) -> Fault | None:
    if len(set(keys)) == len(keys):
        return None
    repeated = next(key for place, key in enumerate(keys) if key in keys[:place])
    return Fault(Kind.MALFORMED_JSON, f'the key "{shown(repeated)}" stands in it more than once')


def _reason(element: bytes, message: str) -> str:
    if _LONE_SURROGATE.search(element):
        return "half of a surrogate pair stands alone in an escape"
    at = _AT_BYTE.search(message)
    if at and (literal := _NOT_JSON.match(element, max(0, int(at.group(1)) - 1)) or _NOT_JSON.match(element, int(at.group(1)))):
        return f"{literal.group().decode()} is not a JSON number"
    if message == "Input data was truncated":
        return "it ends before it is complete"
    return message.removeprefix("JSON is malformed: ")
