"""Filters that a resource declares by name: which of their fields a value is looked for in."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.exports.values import ITEM, Unfit, canonical_values
from penstock.resources.model import FieldType, FilterTarget, NamedFilter


@dataclass(frozen=True, slots=True)
class Search:
    """A field of a named filter with the values, canonical, that it can hold; at least one."""

    target: FilterTarget
    values: tuple[str, ...]


def searches(named: NamedFilter, values: Sequence[str]) -> tuple[Search, ...]:
    """Where to look for the values; fields that can hold none of them are left out."""
    fitting = ((target, tuple(v for v in _read(target, values) if isinstance(v, str))) for target in named.targets)
    return tuple(Search(target, held) for target, held in fitting if held)


def unfit_value(named: NamedFilter, values: Sequence[str]) -> tuple[str, str] | None:
    """The first value that none of the filter's fields can hold, and what they can; None if there is no such value."""
    readings = zip(*(_read(target, values) for target in named.targets), strict=True)
    for value, answers in zip(values, readings, strict=True):
        reasons = [answer.allowed for answer in answers if isinstance(answer, Unfit)]
        if len(reasons) == len(answers):
            return value, ", or ".join(dict.fromkeys(reasons))
    return None


def _read(target: FilterTarget, values: Sequence[str]) -> list[str | Unfit]:
    """A list of texts is searched for an item."""
    return canonical_values(ITEM if target.field.type is FieldType.STRINGS else target.field, values)
