"""The SELECT of an export and what is asked beside it: whole texts without parameters, since COPY takes none.

One shape of columns for every format, in the order asked for (see `select`), in the order of the primary key.
"""

from collections.abc import Collection

from psycopg import sql

from penstock.database.moments import moment_text
from penstock.exports.columns import Column, columns
from penstock.exports.model import ExportWishes
from penstock.exports.predicates import ROW, where
from penstock.resources.model import Child, Field, FieldType, Resource
from penstock.resources.registry import Registry

_ROW, _PART, _SHOWN = sql.Identifier(ROW), sql.Identifier("Part"), sql.Identifier("Shown")
_EXPRESSIONS = {
    # The first cast of each does nothing, unless somebody altered the column: what is no number would else pass for one in JSON.
    FieldType.UUID: sql.SQL("{}::uuid::text"),
    FieldType.NUMBER: sql.SQL("{}::numeric::text"),  # the driver would write the digits itself: 0.45 s for a million instead of 0.27 s
    FieldType.STRINGS: sql.SQL("to_json({}::text[])::text"),
}


def select(registry: Registry, wishes: ExportWishes, *, empty: Collection[str] = ()) -> str:
    """The records asked for: text for strings, UUIDs and numbers, compact JSON text for lists and children, other types their own.

    A child's column is never null. `empty`: tables of children that hold nothing in the snapshot to be read; their columns are left out,
    unless nothing else is asked for: to look for the children of each record costs a second for a million records, and even to send as
    many constants a tenth of one.
    """
    resource = registry.get(wishes.resource)
    asked = columns(resource, wishes)
    shown = [column for column in asked if not is_empty(column, empty)] or asked[:1]
    values = (sql.SQL("{} AS {}").format(_value(resource, column, empty), sql.Identifier(column.name)) for column in shown)
    statement = sql.SQL("SELECT {} FROM {} AS {}{} ORDER BY {}").format(
        sql.SQL(", ").join(values),
        sql.Identifier(resource.table),
        _ROW,
        where(registry, resource, wishes.conditions),
        _order(resource),
    )
    return statement.as_string(None)


def is_empty(column: Column, empty: Collection[str]) -> bool:
    """Whether every record has `[]` there."""
    return column.child is not None and column.child.table in empty


def count(registry: Registry, wishes: ExportWishes) -> str:
    """How many records are asked for, as one bigint."""
    resource = registry.get(wishes.resource)
    statement = sql.SQL("SELECT count(*) FROM {} AS {}{}").format(
        sql.Identifier(resource.table), _ROW, where(registry, resource, wishes.conditions)
    )
    return statement.as_string(None)


def children_probes(registry: Registry, wishes: ExportWishes) -> dict[str, str]:
    """For each child's table that `select` would look into, a statement that is true if it holds anything: what is not goes to `empty`."""
    parts = (column.child for column in columns(registry.get(wishes.resource), wishes) if column.child)
    probe = sql.SQL("SELECT EXISTS (SELECT FROM {})")
    return {part.table: probe.format(sql.Identifier(part.table)).as_string(None) for part in parts}


def _order(resource: Resource) -> sql.Composable:
    """A text by its bytes, so that the same records come in the same order from every database."""
    key = sql.Identifier(ROW, resource.primary_key)
    return sql.SQL('{} COLLATE "C"').format(key) if resource.by_name[resource.primary_key].type is FieldType.STRING else key


def _value(resource: Resource, column: Column, empty: Collection[str]) -> sql.Composable:
    if column.child is not None:
        return sql.SQL("'[]'::text") if is_empty(column, empty) else _children(resource, column.child)
    assert column.field is not None
    name = sql.Identifier(ROW, column.name)
    expression = _EXPRESSIONS.get(column.field.type)
    return name if expression is None else expression.format(name)


def _children(resource: Resource, child: Child) -> sql.Composable:
    return sql.SQL(
        "array_to_json(ARRAY(SELECT row_to_json({shown}) FROM (SELECT {values} FROM {table} AS {part} WHERE {part}.{parent} = {row}.{key}"
        " ORDER BY {part}.position) AS {shown}))::text"
    ).format(
        shown=_SHOWN,
        values=sql.SQL(", ").join(_child_value(field) for field in child.fields),
        table=sql.Identifier(child.table),
        part=_PART,
        parent=sql.Identifier(child.parent_column),
        row=_ROW,
        key=sql.Identifier(resource.primary_key),
    )


def _child_value(field: Field) -> sql.Composable:
    name = sql.Identifier(field.name)
    column = sql.SQL("{}.{}").format(_PART, name)
    return sql.SQL("{} AS {}").format(moment_text(column) if field.type is FieldType.DATETIME else column, name)
