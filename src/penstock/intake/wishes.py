"""What a request asks of an import: options as texts (form fields, query) or as JSON, into what the services take.

Every fault is an InvalidOptionError that names the option, the value and what is allowed; what is not known is refused, never ignored.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from penstock.errors import InvalidOptionError
from penstock.formats.csv_dialect import check_delimiter
from penstock.formats.model import Format, ReadOptions
from penstock.intake.values import delimiter_of, invalid, mapping_of, null_values_of
from penstock.jobs.model import Empty, ImportOptions, Mode, OnError
from penstock.resources.checks import CheckOptions
from penstock.sources.encoding import canonical_codec

_Enum = TypeVar("_Enum", bound=StrEnum)
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_MOST_ERRORS = 2**53  # beyond it JSON numbers lose digits


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    resource: str | None
    read: ReadOptions
    options: ImportOptions

    def asked(self) -> dict[str, Any]:
        """The normalised request, for its fingerprint: a default said and a default not said are the same."""
        return {
            "resource": self.resource,
            "read": msgspec.to_builtins(self.read),
            "options": msgspec.to_builtins(self.options),
        }


def wishes_of(given: Mapping[str, Any], *, beside: Iterable[str] = ()) -> Wishes:
    """`given`: texts, or values as JSON has them; None and, but for null_values, an empty text count as not given.

    `beside` names what else the request may hold, which is not looked at here.
    """
    beside = set(beside)
    _refuse_unknown(given, beside)
    read, options = {}, {}
    for name, value in given.items():
        if name in beside or value is None or (value == "" and name != "null_values"):
            continue
        if name in _READING:
            read[name] = _READING[name](name, value)
        elif name in _OPTIONS:
            options[name] = _OPTIONS[name](name, value)
    wishes = Wishes(resource=_resource(given.get("resource")), read=ReadOptions(**read), options=ImportOptions(**options))
    CheckOptions(timezone=wishes.options.timezone, datetime_format=wishes.options.datetime_format)  # raises for what means nothing
    return wishes


def _refuse_unknown(given: Mapping[str, Any], beside: set[str]) -> None:
    known = sorted({*OPTION_NAMES, *beside})
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InvalidOptionError(
                f"There is no option {name[:100]!r}; there are {', '.join(known)}.{hint}", option=name[:100], allowed=known, near=near
            )


def _resource(value: object) -> str | None:
    if value is None or value == "":
        return None
    return _text("resource", value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise invalid(name, value, "a text")
    return value


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise invalid(name, value, "true or false", ("true", "false"))


def _count(name: str, value: object) -> int:
    digits = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(_MOST_ERRORS)) or int(digits) > _MOST_ERRORS:
        raise invalid(name, value, "a whole number, 0 or more")
    return int(digits)


def _one_of(kind: type[_Enum]) -> Callable[[str, object], _Enum]:
    def read(name: str, value: object) -> _Enum:
        try:
            return kind(value.strip().lower() if isinstance(value, str) else "")
        except ValueError:
            choices = [member.value for member in kind]
            raise invalid(name, value, f"one of {', '.join(choices)}", choices) from None

    return read


def _delimiter(name: str, value: object) -> str:
    delimiter = delimiter_of(_text(name, value), name)
    assert delimiter is not None
    check_delimiter(delimiter)
    return delimiter


def _encoding(name: str, value: object) -> str:
    text = _text(name, value)
    canonical_codec(text)
    return text


def _null_values(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return null_values_of([value])
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            raise invalid(name, value, 'a JSON list of texts such as ["", "NULL"], or texts with commas between them') from None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise invalid(name, value, 'a list of texts such as ["", "NULL"]')
    return tuple(dict.fromkeys(value))


def _mapping(name: str, value: object) -> dict[str, str]:
    if isinstance(value, str):
        return mapping_of([value], name)
    if not isinstance(value, dict) or not all(isinstance(field, str) for field in value.values()):
        raise invalid(name, value, 'an object of texts, such as {"Mail": "email"}')
    return value


_READING: dict[str, Callable[[str, object], Any]] = {
    "format": _one_of(Format),
    "delimiter": _delimiter,
    "encoding": _encoding,
    "null_values": _null_values,
    "mapping": _mapping,
}
_OPTIONS: dict[str, Callable[[str, object], Any]] = {
    "mode": _one_of(Mode),
    "empty": _one_of(Empty),
    "on_error": _one_of(OnError),
    "atomic": _flag,
    "dry_run": _flag,
    "max_errors": _count,
    "timezone": _text,
    "datetime_format": _text,
}
OPTION_NAMES = ("resource", *_READING, *_OPTIONS)
