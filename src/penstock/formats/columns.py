"""Which column of a file is which field of a resource: said once, before the first record, and stored."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from penstock.errors import DuplicateColumnsError, InvalidOptionError, MissingColumnsError
from penstock.formats.csv_guard import SPREADSHEET_COLUMN
from penstock.resources.model import Resource

NUL_SIGN = "\u2400"
ERRORS_COLUMN = "_errors"  # what Penstock adds to rejected records; ignored when a mended file comes back
OWN_COLUMNS = frozenset({ERRORS_COLUMN, SPREADSHEET_COLUMN})  # nothing of a record, and nobody is told that they are ignored
_UNREADABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')


def shown(name: str) -> str:
    """A column's or key's name without NUL, which PostgreSQL stores neither as text nor in JSON."""
    return name.replace("\0", NUL_SIGN)


def match_columns(
    columns: Sequence[str], resource: Resource, mapping: Mapping[str, str], *, partial: bool
) -> tuple[dict[str, str], list[str]]:
    """Column -> field, and the named columns that the resource does not have, both in the file's order.

    `partial`: the import only changes stored records, so the primary or the natural key is all that a file must have.
    Raises InvalidOptionError, DuplicateColumnsError, MissingColumnsError.
    """
    check_mapping(mapping, resource)
    _refuse_repeated(columns)
    if unknown := [shown(column) for column in mapping if column not in columns]:
        raise InvalidOptionError(
            f"mapping names columns that the file does not have: {', '.join(unknown)}; it has {', '.join(filter(None, columns))}",
            unknown=unknown,
            found=[*filter(None, columns)],
        )
    accepted = set(resource.accepted)
    fields, ignored = {}, []
    for column in columns:
        if (field := mapping.get(column, column)) in accepted:
            fields[column] = field
        elif column and column not in OWN_COLUMNS:
            ignored.append(column)
    _refuse_shared(fields)
    _refuse_missing(columns, fields, resource, partial=partial)
    return fields, ignored


def match_keys(resource: Resource, mapping: Mapping[str, str]) -> dict[str, str]:
    """JSON key -> field. A field that the mapping fills from another key is not looked for under its own name as well.

    Raises InvalidOptionError, DuplicateColumnsError.
    """
    check_mapping(mapping, resource)
    if unreadable := [shown(key) for key in mapping if not is_readable(key)]:
        raise InvalidOptionError(
            f"mapping names JSON keys with a quote, a backslash or a control character, which are not read: {', '.join(unreadable)}",
            unreadable=unreadable,
        )
    _refuse_shared(mapping)
    taken = set(mapping.values())
    return {**mapping, **{name: name for name in resource.accepted if name not in taken and name not in mapping}}


def is_readable(key: str) -> bool:
    """Whether msgspec takes the key as a Struct's; others are passed over like every key that the resource does not have."""
    return _UNREADABLE.search(key) is None


def check_mapping(mapping: Mapping[str, str], resource: Resource) -> None:
    if unknown := sorted({shown(name) for name in mapping.values()} - set(resource.accepted)):
        raise InvalidOptionError(
            f"mapping names fields that {resource.name} does not have: {', '.join(unknown)}; it has {', '.join(resource.accepted)}",
            unknown=unknown,
            allowed=list(resource.accepted),
        )


def _refuse_repeated(columns: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(columns).items() if count > 1 and name]
    if repeated:
        raise DuplicateColumnsError(
            f"the file has more than one column named {', '.join(repeated)}; rename or remove one", columns=repeated
        )


def _refuse_shared(fields: Mapping[str, str]) -> None:
    for field, count in Counter(fields.values()).items():
        if count > 1:
            sharing = [column for column, target in fields.items() if target == field]
            raise DuplicateColumnsError(
                f"the columns {', '.join(sharing)} all stand for {field}; map only one of them to it", columns=sharing, field=field
            )


def _refuse_missing(columns: Sequence[str], fields: Mapping[str, str], resource: Resource, *, partial: bool) -> None:
    present = set(fields.values())
    if partial:
        keys = [key for key in (resource.primary_key, resource.natural_key) if key]
        missing = [] if present.intersection(keys) else [" or ".join(dict.fromkeys(keys))]
    else:
        aliases = {reference.field: reference.alias for reference in resource.references}
        missing = [f.name for f in resource.fields if f.required and f.name not in present and aliases.get(f.name) not in present]
    found = [column for column in columns if column]
    if missing or not present:
        near = _near_misses(missing, [column for column in found if column not in fields])
        hint = "".join(f"; did you mean {column} as {field}? (mapping)" for field, column in near.items())
        missed = ", ".join(missing) or "any field"
        raise MissingColumnsError(
            f"the file has no column for {missed} of {resource.name}; it has {', '.join(found) or 'none'}{hint}",
            missing=missing,
            found=found,
            near=near,
        )


def _near_misses(missing: Sequence[str], unused: Sequence[str]) -> dict[str, str]:
    """Missing field -> the unused column that was probably meant: never taken by itself, only said."""
    plain = {_plain(column): column for column in unused}
    near = {}
    for field in missing:
        if close := difflib.get_close_matches(_plain(field), plain, n=1, cutoff=0.75):
            near[field] = plain[close[0]]
    return near


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
