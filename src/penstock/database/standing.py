"""Does a table that stands already hold a resource, with the keys that make a record land once? Looked at, never altered."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from penstock.errors import DatabaseRefusedError
from penstock.resources.model import Field, FieldType

SQL_TYPES = {
    FieldType.STRING: "text",
    FieldType.UUID: "uuid",
    FieldType.INTEGER: "integer",
    FieldType.NUMBER: "numeric",
    FieldType.BOOLEAN: "boolean",
    FieldType.DATETIME: "timestamp with time zone",
    FieldType.STRINGS: "text[]",
}

_VARCHAR = "character varying"
_HEADER = 4  # what PostgreSQL adds to the modifiers of varchar and numeric, so that -1 can mean none
_SCALE_BITS = 11
_EXPECTED = sql.Identifier("pg_temp", "penstock_expected")


class _Found(NamedTuple):
    type: str  # without its modifier
    modifier: int  # -1: none
    shown: str


class _Index(NamedTuple):
    """A unique index on one column or expression, which refuses a second row at once, whatever else the row holds."""

    primary: bool
    column: str | None
    expression: str | None  # in PostgreSQL's own words
    collation: int
    deterministic: bool


class UniqueKey(NamedTuple):
    column: str
    expression: sql.Composable
    statement: sql.Composed  # makes the index
    folded: bool  # the expression is more than the column


def check_columns(connection: psycopg.Connection[Any], table: str, fields: Iterable[Field]) -> None:
    """Raises DatabaseRefusedError if a column is missing, of another type, or too narrow for a value that its field allows."""
    found = {
        name: _Found(*rest)
        for name, *rest in connection.execute(
            "SELECT attname::text, format_type(atttypid, NULL), atttypmod, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped",
            [table],
        ).fetchall()
    }
    wrong = [
        f"{field.name} should be {_wanted(field)} and is {at.shown if at else 'missing'}"
        for field in fields
        if not _fits(field, at := found.get(field.name))
    ]
    if wrong:
        raise DatabaseRefusedError(
            f"table {table!r} stands already and does not fit its resource: {'; '.join(wrong)}. "
            "Alter the table, or give the resource another table.",
            table=table,
            columns=wrong,
        )


def _longest(field: Field) -> int | None:
    return max(map(len, field.enum)) if field.enum else field.max_length


def _wanted(field: Field) -> str:
    kind = SQL_TYPES[field.type]
    if field.type is FieldType.STRING and (longest := _longest(field)) is not None:
        return f"{kind} or {_VARCHAR}({longest}) at least"
    if field.type is FieldType.NUMBER and field.precision is not None:
        return f"{kind}({field.precision},{field.scale}) at least"
    return kind


def _fits(field: Field, found: _Found | None) -> bool:
    if found is None:
        return False
    if field.type is FieldType.STRING and found.type == _VARCHAR:
        longest = _longest(field)
        return found.modifier < 0 or (longest is not None and found.modifier - _HEADER >= longest)
    if found.type != SQL_TYPES[field.type]:
        return False
    # A number would be rounded or refused, a time (timestamptz(0)) rounded.
    return found.modifier < 0 or (field.type is FieldType.NUMBER and _holds(field, found.modifier - _HEADER))


def _holds(field: Field, modifier: int) -> bool:
    """Whether numeric(p,s) has the field's digits, on both sides of the point."""
    if field.precision is None:
        return False
    precision, scale = modifier >> 16 & 0xFFFF, modifier & (1 << _SCALE_BITS) - 1
    if scale >> (_SCALE_BITS - 1):
        scale -= 1 << _SCALE_BITS  # digits before the point that are always zero
    return scale >= field.scale and precision - scale >= field.precision - field.scale


def check_keys(connection: psycopg.Connection[Any], table: str, primary_key: str, unique: UniqueKey | None) -> None:
    """Without these indexes two imports at once would each insert the same record, and neither would notice.

    Raises DatabaseRefusedError with the statement that makes the missing one.
    """
    indexes = _unique_indexes(connection, table)
    if not any(index.primary and index.column == primary_key and index.deterministic for index in indexes):
        statement = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(sql.Identifier(table), sql.Identifier(primary_key))
        raise _refused(connection, table, f"its primary key is not {primary_key}", statement)
    if unique is not None and not _is_unique(connection, table, unique, indexes):
        raise _refused(connection, table, f"nothing keeps {unique.column} unique as the resource compares it", unique.statement)


def _is_unique(connection: psycopg.Connection[Any], table: str, unique: UniqueKey, indexes: list[_Index]) -> bool:
    if not unique.folded:
        return any(index.column == unique.column and index.deterministic for index in indexes)
    expected = _as_deparsed(connection, table, unique.expression)
    return any((index.expression, index.collation) == (expected.expression, expected.collation) for index in indexes)


def _as_deparsed(connection: psycopg.Connection[Any], table: str, expression: sql.Composable) -> _Index:
    """The expression in PostgreSQL's own words, which are other ones for other column types and versions: it is asked each time."""
    connection.execute(sql.SQL("CREATE TEMP TABLE penstock_expected (LIKE {})").format(sql.Identifier(table)))
    connection.execute(sql.SQL("CREATE UNIQUE INDEX ON {} (({}))").format(_EXPECTED, expression))
    (index,) = _unique_indexes(connection, "penstock_expected")
    connection.execute(sql.SQL("DROP TABLE {}").format(_EXPECTED))
    return index


def _unique_indexes(connection: psycopg.Connection[Any], table: str) -> list[_Index]:
    """Those that hold for every row at once: neither partial nor deferrable, valid, on one column or expression."""
    rows = connection.execute(
        "SELECT i.indisprimary, a.attname::text, pg_get_expr(i.indexprs, i.indrelid),"
        " i.indcollation[0]::bigint, coalesce(c.collisdeterministic, true)"
        " FROM pg_index i"
        " LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attnum > 0"
        " LEFT JOIN pg_collation c ON c.oid = i.indcollation[0]"
        " WHERE i.indrelid = to_regclass(quote_ident(%s)) AND i.indisunique AND i.indisvalid AND i.indimmediate"
        " AND i.indpred IS NULL AND i.indnkeyatts = 1",
        [table],
    ).fetchall()
    return [_Index(*row) for row in rows]


def _refused(connection: psycopg.Connection[Any], table: str, why: str, statement: sql.Composed) -> DatabaseRefusedError:
    text = statement.as_string(connection)
    return DatabaseRefusedError(
        f"table {table!r} stands already and cannot hold its resource: {why}. Run: {text};", table=table, statement=text
    )
