"""Do the records that others refer to exist? Set-based, for a whole partition at once.

The foreign keys of the tables hold what is found here until the commit: a parent deleted in between makes the partition start over.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from penstock.database.planner import index_lookups
from penstock.database.tables import column_type, key_expression
from penstock.resources.model import FieldType, Reference, Resource, ResourceName
from penstock.resources.problems import Kind, Problem

Connection = psycopg.Connection[Any]
FOUND_KEY, FOUND_ID = "?found_key", "?found_id"  # not in any identifier, so they meet no field


def uuid_text(hexadecimal: str) -> str:
    h = hexadecimal
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def settle(
    connection: Connection, resource: Resource, targets: Mapping[ResourceName, Resource], frame: pl.DataFrame
) -> tuple[pl.DataFrame, list[Problem]]:
    """The frame with every alias turned into the primary key it stands for, without the records that refer to nothing, and why not.

    References to the resource itself are left to the tied records, which are applied in file order.
    """
    problems: list[Problem] = []
    for reference in resource.references:
        if reference.resource == resource.name:
            continue
        target = targets[reference.resource]
        if reference.alias and frame[reference.alias].null_count() < frame.height:
            frame = _with_alias(connection, reference, target, frame, problems)
        _check_ids(connection, reference, target, frame, problems)
    if problems:
        frame = frame.filter(~pl.col("row").is_in(list({p.row for p in problems})))
    return frame, problems


def _with_alias(
    connection: Connection, reference: Reference, target: Resource, frame: pl.DataFrame, problems: list[Problem]
) -> pl.DataFrame:
    """Fill the reference from its alias; both given must agree."""
    alias, field = reference.alias, reference.field
    assert alias is not None
    found = _ids_of_keys(connection, target, frame[alias].drop_nulls().unique().to_list(), frame.schema[field])
    frame = frame.join(found, left_on=alias, right_on=FOUND_KEY, how="left", maintain_order="left")
    unknown = frame.filter(pl.col(alias).is_not_null() & pl.col(FOUND_ID).is_null())
    problems += [Problem(row, Kind.DANGLING, alias, value, field) for row, value in unknown.select("row", alias).iter_rows()]
    other = frame.filter(pl.col(FOUND_ID) != pl.col(field))
    problems += [Problem(row, Kind.DISAGREEING, alias, value, field) for row, value in other.select("row", alias).iter_rows()]
    return frame.with_columns(pl.coalesce(field, FOUND_ID).alias(field)).drop(FOUND_ID)


def _ids_of_keys(connection: Connection, target: Resource, keys: list[str], id_type: pl.DataType) -> pl.DataFrame:
    """FOUND_KEY, FOUND_ID for the natural keys that exist."""
    key = key_expression(target, "t")
    assert key is not None
    statement = sql.SQL("SELECT k.key, {primary} FROM unnest(%s::text[]) AS k(key) JOIN {table} t ON {key} = k.key").format(
        primary=_as_text(target), table=sql.Identifier(target.table), key=key
    )
    rows = _look_up(connection, statement, keys)
    found = pl.DataFrame(rows, schema={FOUND_KEY: pl.String, FOUND_ID: pl.String}, orient="row")
    return found.with_columns(pl.col(FOUND_ID).str.decode("hex")) if id_type == pl.Binary else found


def _check_ids(connection: Connection, reference: Reference, target: Resource, frame: pl.DataFrame, problems: list[Problem]) -> None:
    field = reference.field
    given = frame.select("row", value=_id_text(frame, field)).drop_nulls()
    distinct = given["value"].unique().to_list()
    if not distinct:
        return
    statement = sql.SQL("SELECT {primary} FROM unnest(%s::text[]) AS k(id) JOIN {table} t ON {id} = k.id::{type}").format(
        primary=_as_text(target),
        table=sql.Identifier(target.table),
        id=sql.Identifier("t", target.primary_key),
        type=column_type(target.by_name[target.primary_key]),
    )
    found = {row[0] for row in _look_up(connection, statement, distinct)}
    if len(found) == len(distinct):
        return
    hexadecimal = frame.schema[field] == pl.Binary
    reported = {p.row for p in problems if p.detail == field}
    problems += [
        Problem(row, Kind.DANGLING, field, uuid_text(value) if hexadecimal else value, field)
        for row, value in given.filter(~pl.col("value").is_in(list(found))).iter_rows()
        if row not in reported
    ]


def _look_up(connection: Connection, statement: sql.Composed, values: list[str]) -> list[tuple[Any, ...]]:
    with index_lookups(connection):
        return connection.execute(statement, [values]).fetchall()


def _id_text(frame: pl.DataFrame, field: str) -> pl.Expr:
    return pl.col(field).bin.encode("hex") if frame.schema[field] == pl.Binary else pl.col(field).cast(pl.String)


def _as_text(target: Resource) -> sql.Composable:
    primary = sql.Identifier("t", target.primary_key)
    if target.by_name[target.primary_key].type is FieldType.UUID:
        return sql.SQL("encode(uuid_send({}), 'hex')").format(primary)
    return sql.SQL("{}::text").format(primary)
