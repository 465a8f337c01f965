"""Tables derived from resources. They are made where they are missing; a table that stands already is checked, never altered."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from penstock.database.standing import SQL_TYPES, UniqueKey, check_columns, check_keys
from penstock.resources.model import NOW, Child, Field, FieldType, Resource

# In front of any lock on tables that people use: better to fail and say so than to stand in everybody's way.
_LOCK_TIMEOUT = "5s"

_HASH_DIGITS = 8
_MOST_READABLE = 63 - len("_") - _HASH_DIGITS - len("_key")  # of an index's name, which PostgreSQL cuts at 63 bytes


def column_type(field: Field) -> sql.SQL:
    if field.type is FieldType.NUMBER and field.precision is not None:
        return sql.SQL(f"numeric({int(field.precision)},{int(field.scale)})")
    return sql.SQL(SQL_TYPES[field.type])


def columns(resource: Resource) -> list[str]:
    """The table's columns in the order in which Penstock copies them: the fields, then the canonical key if the resource keeps one."""
    return [f.name for f in resource.fields] + ([resource.key_column] if resource.key_column else [])


def key_expression(resource: Resource, table: str | None = None) -> sql.Composable | None:
    """The natural key as it is compared and indexed; None where only the primary key identifies a record.

    Lower-casing is left to PostgreSQL for ASCII only (collation C); what goes beyond is folded in one place, `penstock.resources.keys`, and
    stands in the key column. The collation makes the order of the index the order of bytes, which is how partitions are sorted.
    """
    if resource.natural_key is None:
        return None
    column = sql.Identifier(*([table] if table else []), resource.natural_key)
    if resource.key_column is None:
        return sql.SQL('{} COLLATE "C"').format(column) if resource.by_name[resource.natural_key].type is FieldType.STRING else column
    folded = sql.Identifier(*([table] if table else []), resource.key_column)
    return sql.SQL('coalesce({}, lower({} COLLATE "C")) COLLATE "C"').format(folded, column)


def default_expression(field: Field) -> sql.Composable | None:
    if field.default is None:
        return None
    if field.default == NOW:
        return sql.SQL("now()")
    if field.type is FieldType.STRINGS:
        items = sql.SQL(", ").join(map(sql.Literal, json.loads(field.default)))
        return sql.SQL("ARRAY[{}]::{}").format(items, column_type(field))
    return sql.SQL("{}::{}").format(sql.Literal(field.default), column_type(field))


def never_null(resource: Resource, field: Field) -> bool:
    """Whether the column refuses NULL: keys, required fields, and fields whose default steps in for every missing value."""
    return field.required or field.default is not None or field.name == resource.primary_key


def _column(resource: Resource, field: Field) -> sql.Composable:
    parts: list[sql.Composable] = [sql.Identifier(field.name), column_type(field)]
    if never_null(resource, field):
        parts.append(sql.SQL("NOT NULL"))
    default = default_expression(field)
    if field.name == resource.primary_key and field.type is FieldType.UUID:
        default = sql.SQL("gen_random_uuid()")
    if default is not None:
        parts += [sql.SQL("DEFAULT"), default]
    return sql.SQL(" ").join(parts)


def _checks(field: Field) -> Iterable[sql.Composable]:
    """Rules that every writer must keep. Lengths and patterns are left to the import: checking them again cost it a tenth of its speed."""
    name = sql.Identifier(field.name)
    if field.enum:
        yield sql.SQL("CHECK ({} IN ({}))").format(name, sql.SQL(", ").join(sql.Literal(value) for value in field.enum))
    if field.minimum is not None:
        yield sql.SQL("CHECK ({} >= {})").format(name, sql.Literal(field.minimum))
    if field.maximum is not None:
        yield sql.SQL("CHECK ({} <= {})").format(name, sql.Literal(field.maximum))


def create_table(resource: Resource) -> list[sql.Composed]:
    """Statements that make the resource's own table with its keys; its children's tables follow by `create_child`."""
    parts: list[sql.Composable] = [_column(resource, field) for field in resource.fields]
    if resource.key_column:
        parts.append(sql.SQL("{} text").format(sql.Identifier(resource.key_column)))
    parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.Identifier(resource.primary_key)))
    parts += [check for field in resource.fields for check in _checks(field)]
    parts += [sql.SQL("CONSTRAINT {} CHECK ({})").format(sql.Identifier(rule.code), sql.SQL(rule.expression)) for rule in resource.rules]
    parts += [
        sql.SQL("FOREIGN KEY ({}) REFERENCES {}").format(sql.Identifier(reference.field), sql.Identifier(reference.table))
        for reference in resource.references
    ]
    unique = _unique_key(resource)
    return [
        _create(resource.table, parts),
        *([unique.statement] if unique else []),
        *(_reference_index(resource.table, reference.field) for reference in resource.references),
    ]


def _unique_key(resource: Resource) -> UniqueKey | None:
    """Never made with IF NOT EXISTS: an index of that name on something else would stand in for it, and nothing would be unique."""
    key = key_expression(resource)
    if key is None or resource.natural_key is None:
        return None
    name = sql.Identifier(_index_name(resource.table, resource.natural_key, "key"))
    statement = sql.SQL("CREATE UNIQUE INDEX {} ON {} (({}))").format(name, sql.Identifier(resource.table), key)
    return UniqueKey(resource.natural_key, key, statement, folded=resource.folds_case)


def _index_name(table: str, column: str, suffix: str) -> str:
    """Joined names alone would meet: `order` with `item_code` and `order_item` with `code`."""
    digest = hashlib.sha256(f"{table}\0{column}".encode()).hexdigest()[:_HASH_DIGITS]
    return f"{f'{table}_{column}'[:_MOST_READABLE]}_{digest}_{suffix}"


def _create(table: str, parts: list[sql.Composable]) -> sql.Composed:
    return sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), sql.SQL(", ").join(parts))


def _reference_index(table: str, column: str) -> sql.Composed:
    """Deleting a parent, and listing what belongs to it, must not read the whole table."""
    return sql.SQL("CREATE INDEX {} ON {} ({})").format(
        sql.Identifier(_index_name(table, column, "idx")), sql.Identifier(table), sql.Identifier(column)
    )


def create_child(resource: Resource, child: Child) -> sql.Composed:
    parts: list[sql.Composable] = [
        sql.SQL("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
        sql.SQL("{} {} NOT NULL REFERENCES {} ON DELETE CASCADE").format(
            sql.Identifier(child.parent_column), column_type(resource.by_name[resource.primary_key]), sql.Identifier(resource.table)
        ),
        sql.SQL("position integer NOT NULL"),
        *(_column(resource, field) for field in child.fields),
        sql.SQL("UNIQUE ({}, position)").format(sql.Identifier(child.parent_column)),
    ]
    return _create(child.table, parts)


def ensure_tables(connection: psycopg.Connection[Any], resources: Iterable[Resource]) -> None:
    """Make what is missing and check what is there, in one transaction.

    Raises DatabaseRefusedError when a table stands already but cannot hold the resource.
    """
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        connection.execute("SET LOCAL client_min_messages = warning")
        # Two processes that start at once would both find the table missing, and the second would fail to make it.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('penstock.tables'))")
        for resource in resources:
            _ensure(connection, resource)


def _ensure(connection: psycopg.Connection[Any], resource: Resource) -> None:
    """A child's table that is missing is made beside a table that stands; that one is checked first."""
    primary = resource.by_name[resource.primary_key]
    if _stands(connection, resource.table):
        key_column = [Field(resource.key_column, FieldType.STRING)] if resource.key_column else []
        check_columns(connection, resource.table, [*resource.fields, *key_column])
        check_keys(connection, resource.table, resource.primary_key, _unique_key(resource))
    else:
        for statement in create_table(resource):
            connection.execute(statement)
    for child in resource.children:
        if _stands(connection, child.table):
            own = [replace(primary, name=child.parent_column), Field("position", FieldType.INTEGER)]
            check_columns(connection, child.table, [*own, *child.fields])
        else:
            connection.execute(create_child(resource, child))


def _stands(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute("SELECT to_regclass(quote_ident(%s)) IS NOT NULL", [table]).fetchone()
    return bool(row and row[0])
