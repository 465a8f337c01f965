"""JSON objects as columns of text: which keys, of which JSON types, and how msgspec reads them.

A text field is read as `str`, everything else as `msgspec.Raw`: the bytes as they stand, so that a number keeps the digits that were
written (2^53+1, 1e400, 0.10) and a list needs no second writing. A Struct per set of keys is 2.5 times as fast as a dict per record.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from penstock.resources.model import FieldType, Resource


class Shape(StrEnum):
    """The JSON values that a field takes beside null. The value is what a problem's detail says it must be."""

    TEXT = "a text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    TEXTS = "a JSON array of texts"
    OBJECTS = "a JSON array of objects"

    @property
    def is_list(self) -> bool:
        return self in (Shape.TEXTS, Shape.OBJECTS)


_SHAPES = {
    FieldType.INTEGER: Shape.NUMBER,
    FieldType.NUMBER: Shape.NUMBER,
    FieldType.BOOLEAN: Shape.BOOLEAN,
    FieldType.STRINGS: Shape.TEXTS,
}

ABSENT = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Column:
    key: str  # in the file
    field: str  # of the resource
    shape: Shape
    attribute: str  # of the Struct: keys may be anything


def columns_of(fields: Mapping[str, str], resource: Resource) -> tuple[Column, ...]:
    shapes = {f.name: _SHAPES.get(f.type, Shape.TEXT) for f in resource.fields}
    for reference in resource.references:
        if reference.alias:
            key = reference.alias_key
            shapes[reference.alias] = _SHAPES.get(key.type, Shape.TEXT) if key else Shape.TEXT
    for child in resource.children:
        shapes[child.field] = Shape.OBJECTS
    return tuple(Column(key, field, shapes[field], f"f{place}") for place, (key, field) in enumerate(fields.items()))


@dataclass(frozen=True, slots=True)
class Records:
    """A Struct for records with certain keys: the resource's, and others that are only counted (`extras`, by attribute)."""

    decoder: msgspec.json.Decoder[Any]
    make: Callable[..., Any]
    extras: Mapping[str, str]  # attribute -> key


def records_type(columns: tuple[Column, ...], unknown: frozenset[str]) -> Records:
    extras = {f"x{place}": key for place, key in enumerate(sorted(unknown))}
    members: list[tuple[str, Any, Any]] = [
        (c.attribute, str | None | msgspec.UnsetType, msgspec.UNSET) if c.shape is Shape.TEXT else (c.attribute, msgspec.Raw, ABSENT)
        for c in columns
    ]
    members += [(attribute, msgspec.Raw, ABSENT) for attribute in extras]
    names = {c.attribute: c.key for c in columns} | extras
    # gc=False: thousands of objects that can hold no cycle need no visits by the collector.
    struct = msgspec.defstruct("Record", members, rename=names, gc=False)
    return Records(msgspec.json.Decoder(struct), struct, extras)
