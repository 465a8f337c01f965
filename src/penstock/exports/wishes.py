"""What a request asks of an export: query parameters, a JSON body or the options of a command, into ExportWishes.

Nothing is ignored. What is wrong with a filter is an InvalidFilterError, what is wrong with the rest an InvalidOptionError; both name what
is allowed. An unknown resource is an UnknownResourceError.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from penstock.errors import InvalidFilterError, InvalidOptionError
from penstock.exports.filters import Asked, clipped, conditions, near
from penstock.exports.model import ExportWishes
from penstock.exports.texts import asked_in_json, asked_in_text
from penstock.formats.model import Compression, Format
from penstock.resources.model import Resource
from penstock.resources.registry import Registry

QUERY_OPTIONS = ("resource", "format", "fields", "spreadsheet")  # a query's other parameters are filters
BODY_OPTIONS = ("resource", "format", "fields", "filters", "compression", "spreadsheet")

_Enum = TypeVar("_Enum", bound=StrEnum)
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def wishes_of_query(registry: Registry, pairs: Sequence[tuple[str, str]], *, resource: str | None = None) -> ExportWishes:
    """`pairs`: query parameters, decoded, in their order; `resource`: the one that the path names."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name == "compression":
            raise _invalid(name, "is no parameter here: a stream is compressed as the header Accept-Encoding asks")
        if name in QUERY_OPTIONS:
            if name in given or (name == "resource" and resource is not None):
                raise _invalid(name, "is given more than once")
            given[name] = value
    declared = _resource(registry, given.get("resource", resource))
    beside = QUERY_OPTIONS if resource is None else QUERY_OPTIONS[1:]
    asked = (asked_in_text(name, value) for name, value in pairs if name not in QUERY_OPTIONS)
    return _wishes(declared, given, asked, beside)


def wishes_of_body(registry: Registry, given: Mapping[str, Any]) -> ExportWishes:
    """`given`: a JSON object, decoded; null counts as not given. Floats may come as Decimal or as text, to keep their digits."""
    given = {name: value for name, value in given.items() if value is not None or name not in BODY_OPTIONS}
    for name in given:
        if name not in BODY_OPTIONS:
            there = f"there are {', '.join(BODY_OPTIONS)}"
            message = f"There is no option {clipped(name)!r}; {there}.{near(name, BODY_OPTIONS)}"
            raise InvalidOptionError(message, option=clipped(name), allowed=list(BODY_OPTIONS))
    filters = given.get("filters", {})
    if not isinstance(filters, Mapping):
        raise _invalid("filters", 'must be an object, such as {"role": "admin", "created_at": {"gte": "2024-01-31T00:00:00Z"}}')
    declared = _resource(registry, given.get("resource"))
    asked = (each for name, value in filters.items() for each in asked_in_json(declared, name, value))
    return _wishes(declared, given, asked)


def wishes_of(
    registry: Registry,
    resource: str,
    *,
    format: Format | str = Format.NDJSON,  # noqa: A002 - the option's name everywhere
    fields: str | Sequence[str] | None = None,
    filters: Sequence[str] = (),
    compression: Compression | str = Compression.NONE,
    spreadsheet: bool = False,
) -> ExportWishes:
    """`filters`: each as in a query, `role=admin` or `created_at[gte]=...`; `fields`: names, or text with commas between them."""
    declared = _resource(registry, resource)
    given: dict[str, Any] = {"format": str(format), "compression": str(compression), "spreadsheet": spreadsheet}
    if fields is not None:
        given["fields"] = fields if isinstance(fields, str) else list(fields)
    return _wishes(declared, given, (asked_in_text(*filter_parts(text)) for text in filters))


def filter_parts(text: str) -> tuple[str, str]:
    """Name, with its operator, and value of `role=admin`. Raises InvalidFilterError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidFilterError(
            f"The filter {clipped(text)!r} has no value: write role=admin, or created_at[gte]=2024-01-31T00:00:00Z.", filter=clipped(text)
        )
    return name, value


def _wishes(resource: Resource, given: Mapping[str, Any], asked: Iterable[Asked], beside: Sequence[str] = ()) -> ExportWishes:
    wishes = ExportWishes(
        resource=resource.name,
        format=_one_of(Format, "format", given.get("format", Format.NDJSON)),
        fields=_fields(resource, given["fields"]) if "fields" in given else _all_fields(resource),
        conditions=conditions(resource, asked, beside=beside),
        compression=_one_of(Compression, "compression", given.get("compression", Compression.NONE)),
        spreadsheet=_flag("spreadsheet", given.get("spreadsheet", False)),
    )
    if wishes.spreadsheet and wishes.format is not Format.CSV:
        raise _invalid("spreadsheet", f"is for format=csv only, not for {wishes.format.value}")
    check_compression(wishes.format, wishes.compression)
    return wishes


def check_compression(form: Format, compression: Compression) -> None:
    """Raises InvalidOptionError."""
    if form is Format.PARQUET and compression is not Compression.NONE:
        raise _invalid("compression", "must be none with format=parquet: a Parquet file is compressed inside, column by column")


def _resource(registry: Registry, name: object) -> Resource:
    if name is None or name == "":
        raise _invalid("resource", f"is missing: it must be one of {', '.join(registry.names)}", registry.names)
    if not isinstance(name, str):
        raise _invalid("resource", f"must be a text, one of {', '.join(registry.names)}", registry.names)
    return registry.get(name)


def _all_fields(resource: Resource) -> tuple[str, ...]:
    return (*resource.by_name, *(child.field for child in resource.children))


def _fields(resource: Resource, given: object) -> tuple[str, ...]:
    known = _all_fields(resource)
    there = f"fields of {resource.name} are {', '.join(known)}"
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid("fields", f"must be a list of names, or names with commas between them; {there}", known)
    if names in ([], [""]):
        raise _invalid("fields", f"names no field; {there}", known)
    for name in names:
        if name not in known:
            raise _invalid("fields", f"has {clipped(name)!r}, which is not a field; {there}", known, near(name, known))
        if names.count(name) > 1:
            raise _invalid("fields", f"has {name} more than once")
    return tuple(names)


def _one_of(kind: type[_Enum], name: str, value: object) -> _Enum:
    choices = [member.value for member in kind]
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in choices:
        text = f"must be one of {', '.join(choices)}, not {clipped(str(value))!r}"
        raise _invalid(name, text, choices, near(word, choices))
    return kind(word)


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise _invalid(name, f"must be true or false, not {clipped(str(value))!r}", ("true", "false"))


def _invalid(name: str, why: str, allowed: Iterable[str] = (), hint: str = "") -> InvalidOptionError:
    details = {"allowed": choices} if (choices := list(allowed)) else {}
    return InvalidOptionError(f"{name} {why}.{hint}", option=name, **details)
