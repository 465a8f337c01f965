"""What a request gives for a filter, as texts: from lists with commas, and from JSON."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from penstock.exports.filters import Asked, clipped, refused, split_name
from penstock.exports.model import Operator
from penstock.resources.model import FieldType, Resource

_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",][^,]*)?)(,|\Z)')


def asked_in_text(written: str, value: str) -> Asked:
    """`written`: `role`, or `role[in]` with commas between the values."""
    name, operator = split_name(written)
    asked = Asked(name, operator, [value])
    return asked._replace(values=_cells(asked, value)) if operator == Operator.IN else asked


def asked_in_json(resource: Resource, written: str, value: Any) -> Iterator[Asked]:
    """`value`: a scalar, a list for `in`, or an object of operators: {"gte": 1, "lt": 5}."""
    name, operator = split_name(written)
    if not isinstance(value, Mapping):
        yield _asked(resource, Asked(name, operator, []), value)
        return
    asked = Asked(name, operator, [])
    if written != name or not value:
        raise refused(asked, 'must be a value, or under its plain name an object of operators such as {"gte": 1, "lt": 5}')
    for word, inner in value.items():
        yield _asked(resource, Asked(name, str(word), []), inner)


def _asked(resource: Resource, asked: Asked, value: Any) -> Asked:
    if asked.operator == Operator.IN:
        if isinstance(value, str):
            return asked._replace(values=_cells(asked, value))
        if isinstance(value, list):
            return asked._replace(values=[_scalar(asked, item) for item in value])
    if not isinstance(value, list):
        return asked._replace(values=[_scalar(asked, value)])
    field = resource.by_name.get(asked.name)
    if field is None or field.type is not FieldType.STRINGS:
        raise refused(asked, f'must be one value; for several there is {{"{clipped(asked.name)}": {{"in": [...]}}}}')
    if not all(isinstance(item, str) for item in value):
        raise refused(asked, 'must be a list of texts, such as ["a", "b"]')
    return asked._replace(values=[msgspec.json.encode(value).decode()])


def _scalar(asked: Asked, value: Any) -> str:
    """Numbers with the digits that they are given with; Decimal is for decoders that keep them."""
    if value is None:
        raise refused(asked, f'cannot be null; for records without a value there is {{"{clipped(asked.name)}": {{"is_null": true}}}}')
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal):
        try:
            return str(value)
        except ValueError:  # Python writes no integers of thousands of digits
            raise refused(asked, "has a number of too many digits") from None
    raise refused(asked, "must be a text, a number, true or false")


def _cells(asked: Asked, text: str) -> list[str]:
    """Values with commas between them; one that holds a comma is quoted as in CSV, quotes in it doubled."""
    values, at = [], 0
    while True:
        if (found := _CELL.match(text, at)) is None:
            raise refused(
                asked, 'has a quoted value that is not followed by a comma or never ends; it is a list such as a,"b,c","say ""d"""'
            )
        values.append(found[2] or "" if found[1] is None else found[1].replace('""', '"'))
        at = found.end()
        if not found[3]:
            return values
