"""What an export's columns are, in the order asked for: the same for the SELECT and for what writes its rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from penstock.database.standing import SQL_TYPES
from penstock.errors import DatabaseRefusedError, InvalidOptionError
from penstock.exports.model import ExportWishes
from penstock.resources.model import Child, Field, FieldType, Resource

_READ_AS = {FieldType.INTEGER: pa.int32(), FieldType.BOOLEAN: pa.bool_(), FieldType.DATETIME: pa.timestamp("us", "UTC")}  # others as text


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the resource, or a list of children: one of `field` and `child` is set."""

    name: str
    field: Field | None = None
    child: Child | None = None


def columns(resource: Resource, wishes: ExportWishes) -> tuple[Column, ...]:
    """The columns of `wishes.fields`. Raises InvalidOptionError for one that the resource does not have (any more)."""
    children = {child.field: child for child in resource.children}
    found = tuple(Column(name, resource.by_name.get(name), children.get(name)) for name in wishes.fields)
    for column in found:
        if column.field is None and column.child is None:
            raise InvalidOptionError(f"{resource.name} has no field {column.name!r} any more.", option="fields", value=column.name)
    return found


def check_types(resource: Resource, columns: Sequence[Column], schema: pa.Schema) -> None:
    """Of what was read. Raises DatabaseRefusedError for a column whose type is no longer its field's.

    Tables are checked when a process starts. A date would be taken for microseconds, and a time without a zone for one in UTC.
    """
    wrong = [
        f"{column.name} should be {SQL_TYPES[column.field.type]} and is read as {read}"
        for column in columns
        if column.field is not None and (read := schema.field(column.name).type) != _READ_AS.get(column.field.type, pa.string())
    ]
    if wrong:
        raise DatabaseRefusedError(
            f"Table {resource.table!r} was altered and does not fit its resource any more: {'; '.join(wrong)}.",
            table=resource.table,
            columns=wrong,
        )
