"""The SELECT that shows one row of a resource as a JSON object: its fields in their order, then its children.

PostgreSQL writes the JSON: a numeric keeps its digits (49.90 stays 49.90), which neither a float nor JSON's parsers on the way would do.
"""

from psycopg import sql

from penstock.database.moments import moment_text
from penstock.resources.model import Child, Field, FieldType, Resource

_ROW, _CHILD, _SHOWN = sql.Identifier("found"), sql.Identifier("part"), sql.Identifier("shown")


def select_one(resource: Resource) -> sql.Composed:
    """One column, the row as JSON text; the parameter is the primary key's value."""
    # row_to_json, since json_build_object takes no more than fifty fields.
    return sql.SQL(
        "SELECT row_to_json({shown})::text FROM (SELECT {values} FROM {table} AS {row} WHERE {row}.{key} = %s) AS {shown}"
    ).format(
        shown=_SHOWN,
        values=sql.SQL(", ").join(
            [*(_value(field, _ROW) for field in resource.fields), *(_children(child, resource) for child in resource.children)]
        ),
        table=sql.Identifier(resource.table),
        row=_ROW,
        key=sql.Identifier(resource.primary_key),
    )


def _value(field: Field, row: sql.Identifier) -> sql.Composed:
    name = sql.Identifier(field.name)
    column = sql.SQL("{}.{}").format(row, name)
    return sql.SQL("{} AS {}").format(moment_text(column), name) if field.type is FieldType.DATETIME else column


def _children(child: Child, resource: Resource) -> sql.Composed:
    return sql.SQL(
        "ARRAY(SELECT row_to_json({shown}) FROM (SELECT {values} FROM {table} AS {child} WHERE {child}.{parent} = {row}.{key}"
        " ORDER BY {child}.position) AS {shown}) AS {field}"
    ).format(
        shown=_SHOWN,
        values=sql.SQL(", ").join(_value(field, _CHILD) for field in child.fields),
        table=sql.Identifier(child.table),
        child=_CHILD,
        parent=sql.Identifier(child.parent_column),
        row=_ROW,
        key=sql.Identifier(resource.primary_key),
        field=sql.Identifier(child.field),
    )
