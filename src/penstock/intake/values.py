"""Options as people write them, into values. The command line and the API share these; `name` is what the option is called there.

Cheap to import: the command line starts with it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from penstock.errors import InvalidOptionError

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_LONGEST_SHOWN = 100  # characters of a wrong value that are shown back


def invalid(name: str, value: object, allowed: str, choices: Iterable[str] = ()) -> InvalidOptionError:
    """Names the option, what it was given and what it may be."""
    text = str(value)
    shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    details = {"allowed": list(choices)} if choices else {}
    return InvalidOptionError(f"{name}: must be {allowed}, not {shown!r}.", option=name, value=shown, **details)


def mapping_of(given: Iterable[str], name: str) -> dict[str, str]:
    """`column=field`, repeated, or one JSON object. The last `=` divides: a column may contain one, a field's name cannot."""
    result: dict[str, str] = {}
    for text in given:
        for column, field in _pairs(text, name).items():
            if result.setdefault(column, field) != field:
                raise InvalidOptionError(
                    f"{name}: column {column!r} is mapped twice, to {result[column]!r} and to {field!r}.", option=name, value=column
                )
    return result


def null_values_of(given: Iterable[str] | None) -> tuple[str, ...]:
    """Repeated, or a list with commas: `NULL,` means NULL and the empty cell."""
    if not given:
        return ("",)
    return tuple(dict.fromkeys(value for text in given for value in text.split(",")))


def delimiter_of(given: str | None, name: str) -> str | None:
    if given is None:
        return None
    delimiter = _DELIMITERS.get(given.lower(), given)
    if len(delimiter) != 1:
        raise invalid(name, given, f"one character, or one of {', '.join(n for n in _DELIMITERS if n.isalpha())}")
    return delimiter


def _pairs(text: str, name: str) -> Mapping[str, str]:
    if text.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(text, type=dict[str, str])
        except msgspec.DecodeError:
            raise invalid(name, text, 'a JSON object of texts, such as {"Mail": "email"}') from None
    column, equals, field = text.rpartition("=")
    if not (equals and column and field):
        raise invalid(name, text, 'column=field, or a JSON object such as {"Mail": "email"}')
    return {column: field}
