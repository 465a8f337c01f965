"""The Polars types that hold a resource's values once they are checked."""

import polars as pl

from penstock.resources.model import Child, Field, FieldType, Resource

ROW = "row"
KEY = "key"
BROKEN_IF_NEW = "broken_if_new"
OF_FILES = frozenset({"_errors", "_spreadsheet"})  # columns that Penstock adds to files, and passes over in those that come back
RESERVED_NAMES = OF_FILES | {ROW, KEY, BROKEN_IF_NEW}  # columns that stand beside a record's fields and may not be one

_TYPES: dict[FieldType, pl.DataType] = {
    FieldType.STRING: pl.String(),
    FieldType.UUID: pl.Binary(),
    FieldType.INTEGER: pl.Int32(),
    FieldType.BOOLEAN: pl.Boolean(),
    FieldType.DATETIME: pl.Datetime("us", "UTC"),
    FieldType.STRINGS: pl.List(pl.String),
}


def polars_type(field: Field) -> pl.DataType:
    if field.type is FieldType.NUMBER:
        return pl.Decimal(field.precision, field.scale)
    return _TYPES[field.type]


def child_type(child: Child) -> pl.DataType:
    return pl.List(pl.Struct({f.name: polars_type(f) for f in child.fields}))


def good_schema(resource: Resource) -> pl.Schema:
    """Columns of `Checked.good`, in order: row, fields, reference aliases, children, and what the declaration adds of keys and rules."""
    schema: dict[str, pl.DataType] = {ROW: pl.Int64()}
    schema |= {f.name: polars_type(f) for f in resource.fields}
    schema |= {alias: pl.String() for alias in resource.aliases}
    schema |= {child.field: child_type(child) for child in resource.children}
    if resource.natural_key:
        schema[KEY] = pl.String()
    if resource.key_column:
        schema[resource.key_column] = pl.String()
    if resource.rules:
        schema[BROKEN_IF_NEW] = pl.String()
    return pl.Schema(schema)
