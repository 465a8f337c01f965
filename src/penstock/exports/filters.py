"""Filters as people write them, into checked conditions: `role=admin`, `created_at[gte]=2024-01-31T00:00:00Z`, `author=ann@example.com`.

Nothing is ignored: every fault is an InvalidFilterError that names the filter and what is allowed.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penstock.errors import InvalidFilterError
from penstock.exports.model import Condition, Operator
from penstock.exports.named import unfit_value
from penstock.exports.values import Unfit, canonical_values, is_storable, truth
from penstock.resources.model import Field, FieldType, NamedFilter, Resource

MOST_CONDITIONS = 50
MOST_VALUES = 1000  # of one `in`

_LONGEST_SHOWN = 100  # characters of what was given that are shown back
_NAME = re.compile(r"([^\[\]]*)\[([^\[\]]*)\]")
_EVERY = (Operator.EQ, Operator.NE, Operator.IN, Operator.IS_NULL)
_ORDER = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
OPERATORS: dict[FieldType, tuple[Operator, ...]] = {
    FieldType.STRING: (*_EVERY, *_ORDER, Operator.LIKE),
    FieldType.UUID: (*_EVERY, *_ORDER),
    FieldType.INTEGER: (*_EVERY, *_ORDER),
    FieldType.NUMBER: (*_EVERY, *_ORDER),
    FieldType.DATETIME: (*_EVERY, *_ORDER),
    FieldType.BOOLEAN: (Operator.EQ, Operator.NE, Operator.IS_NULL),
    FieldType.STRINGS: (Operator.EQ, Operator.NE, Operator.IS_NULL),
}
NAMED_OPERATORS = (Operator.EQ, Operator.IN)


class Asked(NamedTuple):
    """One filter as it was given; `values` has one text, but for `in` any number."""

    name: str
    operator: str
    values: Sequence[str]

    @property
    def written(self) -> str:
        return clipped(self.name if self.operator == Operator.EQ else f"{self.name}[{self.operator}]")


def split_name(written: str) -> tuple[str, str]:
    """Name and operator of `role` or `role[ne]`. A name that is not written so is left whole, for it to be told as unknown."""
    found = _NAME.fullmatch(written)
    return (found[1], found[2]) if found else (written, Operator.EQ.value)


def conditions(resource: Resource, asked: Iterable[Asked], *, beside: Sequence[str] = ()) -> tuple[Condition, ...]:
    """`beside`: parameters that stand beside the filters in the same request, named where a name is unknown."""
    made: dict[tuple[str, Operator], Condition] = {}
    for each in asked:
        if len(made) >= MOST_CONDITIONS:
            raise InvalidFilterError(f"There are too many filters: at most {MOST_CONDITIONS} are allowed.", most=MOST_CONDITIONS)
        condition = _condition(resource, each, beside)
        if made.setdefault((condition.name, condition.operator), condition) is not condition:
            raise refused(each, f"is given more than once; for several values there is {clipped(each.name)}[in]=a,b")
    return tuple(made.values())


def refused(asked: Asked, why: str, allowed: Iterable[str] = (), hint: str = "") -> InvalidFilterError:
    details = {"allowed": named} if (named := list(allowed)) else {}
    return InvalidFilterError(f"The filter {asked.written} {why}.{hint}", filter=asked.written, **details)


def clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def near(name: str, known: Iterable[str]) -> str:
    """A hint at what was meant, or nothing."""
    found = difflib.get_close_matches(name[:_LONGEST_SHOWN], list(known), 1)
    return f" Did you mean {found[0]}?" if found else ""


def _condition(resource: Resource, asked: Asked, beside: Sequence[str]) -> Condition:
    if not 0 < len(asked.values) <= MOST_VALUES:
        raise refused(asked, f"takes 1 to {MOST_VALUES} values, not {len(asked.values)}")
    field = resource.by_name.get(asked.name)
    if field is not None:
        return _by_field(field, asked)
    named = next((each for each in resource.filters if each.name == asked.name), None)
    if named is not None:
        return _by_name(named, asked)
    if asked.name in (child.field for child in resource.children):
        raise refused(asked, f"is not possible: {asked.name} is a list of records, and records are not filtered by those inside them")
    raise _unknown(resource, asked, beside)


def _unknown(resource: Resource, asked: Asked, beside: Sequence[str]) -> InvalidFilterError:
    names = [each.name for each in resource.filters]
    known = [*resource.by_name, *names, *beside]
    there = f"{resource.name} can be filtered by the fields {', '.join(resource.by_name)}"
    there += f" and by {', '.join(names)}" if names else ""
    there += f"; other parameters are {', '.join(beside)}" if beside else ""
    message = f"There is no filter {clipped(asked.name)!r}; {there}.{near(asked.name, known)}"
    return InvalidFilterError(message, filter=clipped(asked.name), allowed=known)


def _by_field(field: Field, asked: Asked) -> Condition:
    operator = _operator(asked, OPERATORS[field.type], f"a {field.type.value}")
    if operator is Operator.IS_NULL:
        return Condition(name=field.name, operator=operator, values=_fitting(asked, [truth(text) for text in asked.values]))
    if operator is Operator.LIKE:
        return Condition(name=field.name, operator=operator, values=(_pattern(asked),))
    values = canonical_values(field, asked.values, declared=operator in _EVERY)
    return Condition(name=field.name, operator=operator, values=_fitting(asked, values))


def _by_name(named: NamedFilter, asked: Asked) -> Condition:
    """Its values are kept as given: each of the filter's fields reads them in its own way."""
    operator = _operator(asked, NAMED_OPERATORS, "a named filter")
    values = tuple(dict.fromkeys(asked.values))
    if (unfit := unfit_value(named, values)) is not None:
        raise refused(asked, f"must be {unfit[1]}, not {clipped(unfit[0])!r}")
    return Condition(name=named.name, operator=operator, values=values)


def _operator(asked: Asked, allowed: Sequence[Operator], what: str) -> Operator:
    words = [operator.value for operator in allowed]
    if asked.operator in words:
        return Operator(asked.operator)
    why = f"has an operator that {what} does not know; operators of {asked.name} are {', '.join(words)}"
    raise refused(asked, why, words, near(asked.operator, words))


def _fitting(asked: Asked, readings: Sequence[str | Unfit]) -> tuple[str, ...]:
    values = []
    for text, reading in zip(asked.values, readings, strict=True):
        if isinstance(reading, Unfit):
            raise refused(asked, f"must be {reading.allowed}, not {clipped(text)!r}")
        values.append(reading)
    return tuple(dict.fromkeys(values))


def _pattern(asked: Asked) -> str:
    (pattern,) = asked.values
    if not is_storable(pattern):
        raise refused(asked, "must be a Unicode text without NUL")
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        raise refused(asked, r"ends with a backslash, which makes the next character plain (\% is a percent sign, \\ a backslash)")
    return pattern
