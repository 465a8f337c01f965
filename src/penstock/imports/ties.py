"""Which records of a wave are tied: those whose outcome depends on another record of the same wave.

Records are tied when they share a primary key or a natural key, when one refers to its own resource (and so perhaps to an earlier record),
or when one of them renames a stored row whose old natural key the other one bears. Every tied record shares something with another, so
nobody needs the groups: the tied ones are applied in file order, all others are free of each other and may go in any order.
"""

from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from penstock.database.planner import index_lookups
from penstock.database.tables import column_type, key_expression
from penstock.resources.model import Reference, Resource

# Of the frames of a merge, beside the fields: not in any identifier, so they meet none.
BY_ID, OLD_KEY, _OTHER = "?by_id", "?old_key", "?other"


def in_file(resource: Resource, frame: pl.DataFrame) -> frozenset[int]:
    """Row numbers of records that are tied by what stands in the file alone."""
    tied = pl.lit(value=False)
    if frame[resource.primary_key].null_count() < frame.height:
        tied = tied | (pl.col(resource.primary_key).is_not_null() & pl.col(resource.primary_key).is_duplicated())
    if resource.natural_key:
        tied = tied | (pl.col("key").is_not_null() & pl.col("key").is_duplicated())
    for reference in own_references(resource):
        tied = tied | pl.col(reference.field).is_not_null() | _referred_to(frame, resource.primary_key, reference.field)
        if reference.alias:
            tied = tied | pl.col(reference.alias).is_not_null() | _referred_to(frame, "key", reference.alias)
    return frozenset(frame.filter(tied)["row"].to_list())


def own_references(resource: Resource) -> list[Reference]:
    """References of the resource to itself."""
    return [r for r in resource.references if r.resource == resource.name]


def _referred_to(frame: pl.DataFrame, column: str, reference: str) -> pl.Expr:
    """Whether a record must not land before the earlier ones that refer to it were refused."""
    return pl.col(column).is_not_null() & pl.col(column).is_in(frame[reference].drop_nulls().implode())


def by_renames(keys: pl.DataFrame, resolved: pl.DataFrame) -> frozenset[int]:
    """Row numbers tied by a renamed row. `keys`: row, key for all records of the wave and whatever names they refer to their own resource
    by; `resolved`: row, BY_ID, OLD_KEY of those whose primary key is stored.

    A record that finds its row by id and gives it another key frees the old key: for a later record with that key the row is gone, for an
    earlier one it is still there. One that gives it no key at all still shares the row with a record that finds it by that key.
    """
    renaming = resolved.filter(pl.col(OLD_KEY).is_not_null()).join(keys, on="row")
    renaming = renaming.filter(pl.col(OLD_KEY).ne_missing(pl.col("key"))).select(pl.col("row").alias(_OTHER), OLD_KEY)
    met = keys.join(renaming, left_on="key", right_on=OLD_KEY).filter(pl.col("row") != pl.col(_OTHER))
    return frozenset([*met["row"].to_list(), *met[_OTHER].to_list()])


def stored_keys(connection: psycopg.Connection[Any], resource: Resource, frame: pl.DataFrame) -> pl.DataFrame:
    """row, BY_ID, OLD_KEY of the records whose primary key is stored; in a transaction."""
    primary = resource.primary_key
    binary = frame.schema[primary] == pl.Binary
    given = frame.select("row", pl.col(primary).alias(BY_ID)).drop_nulls()
    key = key_expression(resource, "t")
    assert key is not None
    ids = given[BY_ID].bin.encode("hex") if binary else given[BY_ID]
    statement = sql.SQL("SELECT k.id, {key} FROM unnest(%s::text[]) AS k(id) JOIN {table} t ON {primary} = k.id::{type}").format(
        key=key, table=sql.Identifier(resource.table), primary=sql.Identifier("t", primary), type=column_type(resource.by_name[primary])
    )
    with index_lookups(connection):
        rows = connection.execute(statement, [ids.unique().to_list()]).fetchall()
    stored = pl.DataFrame(rows, schema={BY_ID: pl.String, OLD_KEY: pl.String}, orient="row")
    stored = stored.with_columns(pl.col(BY_ID).str.decode("hex")) if binary else stored
    return given.join(stored, on=BY_ID)
