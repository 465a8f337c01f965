"""Checked conditions as SQL, values inlined: COPY takes no parameters.

What is compared with a key is written as its index is, so that the index serves.
"""

from collections.abc import Sequence
from itertools import groupby

import msgspec
from psycopg import sql

from penstock.database.tables import key_expression
from penstock.errors import InvalidFilterError
from penstock.exports.model import Condition, Operator
from penstock.exports.named import Search, searches
from penstock.resources.keys import canonical
from penstock.resources.model import Field, FieldType, NamedFilter, Resource
from penstock.resources.registry import Registry

ROW = "Row"  # the exported table's name in the statement; with a capital letter, which no declared name has
_OTHER = "Other"
_INT32 = 2**31
_COMPARED = {
    Operator.EQ: sql.SQL("{} = {}"),
    Operator.NE: sql.SQL("{} IS DISTINCT FROM {}"),
    Operator.GT: sql.SQL("{} > {}"),
    Operator.GTE: sql.SQL("{} >= {}"),
    Operator.LT: sql.SQL("{} < {}"),
    Operator.LTE: sql.SQL("{} <= {}"),
    Operator.LIKE: sql.SQL("{} LIKE {}"),
}
_TYPES = {
    FieldType.UUID: "uuid",
    FieldType.NUMBER: "numeric",
    FieldType.BOOLEAN: "boolean",
    FieldType.DATETIME: "timestamptz",
}
_BY_EQUALITY = (Operator.EQ, Operator.NE, Operator.IN)


def where(registry: Registry, resource: Resource, conditions: Sequence[Condition]) -> sql.Composable:
    """` WHERE ...`, or nothing. Raises InvalidFilterError for what the resource does not have (any more)."""
    if not conditions:
        return sql.SQL("")
    return sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(_condition(registry, resource, each) for each in conditions))


def _condition(registry: Registry, resource: Resource, condition: Condition) -> sql.Composable:
    if (field := resource.by_name.get(condition.name)) is not None:
        return _predicate(resource, ROW, field, condition.operator, condition.values)
    for named in resource.filters:
        if named.name == condition.name:
            return _named(registry, resource, named, condition.values)
    raise InvalidFilterError(f"{resource.name} has no filter {condition.name!r} any more.", filter=condition.name)


def _predicate(resource: Resource, row: str, field: Field, operator: Operator, values: Sequence[str]) -> sql.Composable:
    column: sql.Composable = sql.Identifier(row, field.name)
    if operator is Operator.IS_NULL:
        return sql.SQL("{} IS NULL" if values[0] == "true" else "{} IS NOT NULL").format(column)
    if operator in _BY_EQUALITY:
        if field.name == resource.natural_key:
            column = key_expression(resource, row) or column
            values = [canonical(value, field, resource.folds_case) for value in values]
        elif field.type is FieldType.STRINGS:
            column = sql.SQL("{}::text[]").format(column)
    elif field.type is FieldType.STRING:
        # The order of bytes, as exports are ordered, whatever the database's language.
        column = sql.SQL('{} COLLATE "C"').format(column)
    literals = _literals(field, values)
    if operator is Operator.IN:
        return sql.SQL("{} IN ({})").format(column, sql.SQL(", ").join(literals))
    return _COMPARED[operator].format(column, literals[0])


def _literals(field: Field, values: Sequence[str]) -> list[sql.Composable]:
    if field.type is FieldType.STRING:
        return [_literal(value) for value in values]
    if field.type is FieldType.STRINGS:
        return [_array(msgspec.json.decode(value, type=list[str])) for value in values]
    if field.type is FieldType.INTEGER:
        # A number that no integer column holds is still larger than all it does; only then the column's own index cannot serve.
        kind = sql.SQL("integer" if all(-_INT32 <= int(value) < _INT32 for value in values) else "numeric")
    else:
        kind = sql.SQL(_TYPES[field.type])
    return [sql.SQL("{}::{}").format(_literal(value), kind) for value in values]


def _array(items: Sequence[str]) -> sql.Composable:
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(map(_literal, items)))


def _literal(text: str) -> sql.SQL:
    """The text as a literal, whatever `standard_conforming_strings` says.

    psycopg's Literal would ask libpq, which without a connection takes the text for the encoding of the connection that this process opened
    last: after one in BIG5 a quote behind a Chinese character is not doubled.
    """
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return sql.SQL(f"E'{escaped}'")


def _named(registry: Registry, resource: Resource, named: NamedFilter, values: Sequence[str]) -> sql.Composable:
    """True where any of the filter's fields has one of the values; fields of what a key refers to are looked up together."""
    ways: list[sql.Composable] = []
    for key, group in groupby(searches(named, values), key=lambda search: search.target.reference):
        if key is None:
            ways += [_search(resource, ROW, search) for search in group]
            continue
        other = registry.get(key.resource)
        ways.append(
            sql.SQL("{} IN (SELECT {} FROM {} AS {} WHERE {})").format(
                sql.Identifier(ROW, key.field),
                sql.Identifier(_OTHER, other.primary_key),
                sql.Identifier(other.table),
                sql.Identifier(_OTHER),
                sql.SQL(" OR ").join(_search(other, _OTHER, search) for search in group),
            )
        )
    # A stored request may be older than a field's type: a value that none of the fields can hold now is no record's.
    return sql.SQL("({})").format(sql.SQL(" OR ").join(ways)) if ways else sql.SQL("false")


def _search(resource: Resource, row: str, search: Search) -> sql.Composable:
    field = search.target.field
    if field.type is FieldType.STRINGS:
        return sql.SQL("{}::text[] && {}").format(sql.Identifier(row, field.name), _array(search.values))
    return _predicate(resource, row, field, Operator.IN if len(search.values) > 1 else Operator.EQ, search.values)
