"""Which column of a file probably stands for which field: suggested to a person, never taken by itself."""

import difflib
from collections.abc import Callable, Mapping, Sequence

_ALIKE = 0.75  # of difflib's ratio; below it names that mean other things meet


def suggested(columns: Sequence[str], fields: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Column -> field, in the columns' order. What `given` maps stands; then the same name, without case, without punctuation, nearly.

    A column or a field is used once; what comes closer goes first.
    """
    found = {column: field for column, field in given.items() if column in columns}
    for same in (str, str.casefold, _plain):
        _match(columns, fields, found, same)
    for _ratio, column, field in sorted(_near(columns, fields, found), reverse=True):
        if column not in found and field not in found.values():
            found[column] = field
    return {column: found[column] for column in dict.fromkeys(columns) if column in found}


def _match(columns: Sequence[str], fields: Sequence[str], found: dict[str, str], same: Callable[[str], str]) -> None:
    free = {same(field): field for field in fields if field not in found.values()}
    for column in columns:
        if column and column not in found and (field := free.pop(same(column), None)) is not None:
            found[column] = field


def _near(columns: Sequence[str], fields: Sequence[str], found: Mapping[str, str]) -> list[tuple[float, str, str]]:
    taken = set(found.values())
    pairs = [(column, field) for column in columns if column and column not in found for field in fields if field not in taken]
    rated = [(difflib.SequenceMatcher(None, _plain(column), _plain(field)).ratio(), column, field) for column, field in pairs]
    return [rating for rating in rated if rating[0] >= _ALIKE]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
