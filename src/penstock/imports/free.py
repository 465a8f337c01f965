"""Merging the free records of a partition: straight into the table where they are new, else resolved first, then inserted or updated.

Free records share no row and no key with any other record of their wave, so each step is one statement for all of them.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import polars as pl

from penstock.crashpoints import CrashPoint, reach
from penstock.database.planner import index_lookups
from penstock.imports import references
from penstock.imports.copying import copy_frame
from penstock.imports.defaults import as_new
from penstock.imports.statements import ChildStatements
from penstock.imports.ties import BY_ID, OLD_KEY
from penstock.imports.unit import Unit
from penstock.jobs.model import Mode
from penstock.resources.model import Child, Resource
from penstock.resources.problems import Kind, Problem

BY_KEY, TARGET = "?by_key", "?target"


class MovedError(Exception):
    """Others changed rows between resolving and merging them; the unit starts over."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where the records of a partition stand in the table."""

    frame: pl.DataFrame  # the records whose references hold
    found: pl.DataFrame  # row, BY_ID, OLD_KEY, BY_KEY: for records that are not stored exactly so already; ids as in the frame


def has_deferred_rules(frame: pl.DataFrame) -> bool:
    """Some record would break a rule as a new row, but maybe not as an update: it must be known which of them it is."""
    return "broken_if_new" in frame.columns and frame["broken_if_new"].null_count() < frame.height


def go_straight(unit: Unit, frame: pl.DataFrame) -> None:
    """Insert records taken for new. Raises UniqueViolation when one of them is not; then nothing of the unit may be kept."""
    frame, problems = references.settle(unit.connection, unit.task.resource, unit.task.targets, frame)
    unit.reject(problems)
    insert_new(unit, frame)


def insert_new(unit: Unit, frame: pl.DataFrame) -> None:
    resource = unit.task.resource
    if has_deferred_rules(frame):
        broken = frame.filter(pl.col("broken_if_new").is_not_null())
        for code in broken["broken_if_new"].unique().to_list():
            unit.reject(rule_problems(unit, broken.filter(pl.col("broken_if_new") == code), code))
        frame = frame.filter(pl.col("broken_if_new").is_null())
    if frame.is_empty():
        return
    rows = as_new(resource, frame, unit.now).sort(insertion_order(resource, frame))
    with unit.connection.cursor() as cursor:
        copy_frame(cursor, unit.statements.table, unit.statements.columns, rows)
        for child in unit.statements.children:
            exploded = elements(rows.rename({resource.primary_key: child.child.parent_column}), child.child, child.child.parent_column)
            copy_frame(cursor, child.table, child.copy_columns, exploded)
    unit.imported += rows.height
    reach(CrashPoint.FREE_COPIED)


def insertion_order(resource: Resource, frame: pl.DataFrame) -> pl.Expr:
    """What new rows are sorted: one index is then filled page after page, and two imports of the same keys wait for each
    other instead of deadlocking.

    Ids that the file brings are random as a rule, keys rarely are: by id the server took 2.5 s of its time for a million users, by key
    3.1 s. Ids made here come in order anyway, so the key decides.
    """
    if resource.natural_key is not None and frame[resource.primary_key].null_count() > frame.height / 2:
        return pl.col("key")
    primary = pl.col(resource.primary_key)
    if frame.schema[resource.primary_key] != pl.Binary:
        return primary
    # The first half of a UUID, as a number: sorting whole ones takes more than twice as long, and equal halves may stand in any order.
    return primary.bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big")


def elements(frame: pl.DataFrame, child: Child, owner: str) -> pl.DataFrame:
    """One row for each element of the child's lists: the owner's column, the position from 0, the child's fields."""
    if frame[child.field].null_count() == frame.height:
        return pl.DataFrame()
    lists = frame.select(owner, child.field).filter(pl.col(child.field).list.len() > 0)
    positions = pl.int_ranges(0, pl.col(child.field).list.len(), dtype=pl.Int32)
    return lists.with_columns(position=positions).explode(child.field, "position").unnest(child.field)


def rule_problems(unit: Unit, frame: pl.DataFrame, code: str) -> list[Problem]:
    field = next(rule.field for rule in unit.task.resource.rules if rule.code == code)
    values = frame.select("row", pl.col(field).cast(pl.String, strict=False))
    return [Problem(row, Kind.RULE, field, value, code) for row, value in values.iter_rows()]


def merge(unit: Unit, frame: pl.DataFrame, *, compare: bool) -> Generator[Resolved, frozenset[int], None]:
    """Stage the records, yield where they stand, take the row numbers that turned out to be tied, merge the others.

    With `compare`, records that are stored exactly so already are found first, by one look-up each, and need no more.
    """
    task = unit.task
    frame, problems = references.settle(unit.connection, task.resource, task.targets, frame)
    unit.reject(problems)
    _stage(unit, frame)
    found = _resolve(unit, frame, compare=compare)
    tied = yield Resolved(frame, found)
    if tied:
        frame = frame.filter(~pl.col("row").is_in(list(tied)))
    unresolved = frame.join(found, on="row", how="inner")
    same = frame.height - unresolved.height
    if task.options.mode is not Mode.INSERT:
        unit.updated += same
        unit.unchanged += same
    _merge_resolved(unit, unresolved)


def _stage(unit: Unit, frame: pl.DataFrame) -> None:
    statements = unit.statements
    with unit.connection.cursor() as cursor:
        for statement in statements.prepare:
            cursor.execute(statement)
        # A commit empties them too, but partitions of an atomic import share one transaction.
        cursor.execute(statements.empty)
        copy_frame(cursor, statements.staging, statements.stage_columns, frame.sort("key" if "key" in frame.columns else "row"))
        for child in statements.children:
            copy_frame(cursor, child.staging, child.stage_columns, elements(frame, child.child, "row"))


def _resolve(unit: Unit, frame: pl.DataFrame, *, compare: bool) -> pl.DataFrame:
    rows: list[int] | None = None
    with index_lookups(unit.connection):
        if compare and unit.task.options.mode is not Mode.INSERT:
            differing = {row[0] for row in unit.connection.execute(unit.statements.differing)}
            rows = sorted(differing.union(*(_bringing(frame, child) for child in unit.statements.children)))
        found = [] if rows == [] else unit.connection.execute(unit.statements.resolve, {"rows": rows}).fetchall()
    primary = unit.task.resource.primary_key
    schema = {"row": pl.Int64, BY_ID: pl.String, OLD_KEY: pl.String, BY_KEY: pl.String}
    resolved = pl.DataFrame(found, schema=schema, orient="row")
    if frame.schema[primary] == pl.Binary:
        resolved = resolved.with_columns(pl.col(BY_ID, BY_KEY).str.decode("hex"))
    return resolved


def _bringing(frame: pl.DataFrame, child: ChildStatements) -> list[int]:
    """Rows that say something about their children."""
    return frame.filter(pl.col(child.child.field).is_not_null())["row"].to_list()


def _merge_resolved(unit: Unit, frame: pl.DataFrame) -> None:
    """`frame` has BY_ID and BY_KEY: the stored rows that bear the record's primary key and its natural key."""
    resource, mode = unit.task.resource, unit.task.options.mode
    taken_id, taken_key = pl.col(BY_ID).is_not_null(), pl.col(BY_KEY).is_not_null()
    if mode is Mode.INSERT:
        unit.reject(duplicates(frame.filter(taken_id), resource.primary_key))
        if resource.natural_key:
            unit.reject(duplicates(frame.filter(taken_key), resource.natural_key))
        insert_new(unit, frame.filter(~taken_id & ~taken_key))
        return
    if resource.natural_key:
        clash = taken_id & taken_key & (pl.col(BY_ID) != pl.col(BY_KEY))
        unit.reject(duplicates(frame.filter(clash), resource.natural_key))
        frame = frame.filter(~clash)
    frame = frame.with_columns(pl.coalesce(BY_ID, BY_KEY).alias(TARGET))
    new = frame.filter(pl.col(TARGET).is_null())
    if mode is Mode.UPDATE:
        unit.reject(Problem(row, Kind.NOT_FOUND) for row in new["row"].to_list())
    else:
        insert_new(unit, new)
    _update(unit, frame.filter(pl.col(TARGET).is_not_null()))


def duplicates(frame: pl.DataFrame, field: str) -> list[Problem]:
    values = frame.select("row", pl.col(field).bin.encode("hex") if frame.schema[field] == pl.Binary else pl.col(field).cast(pl.String))
    binary = frame.schema[field] == pl.Binary
    return [Problem(row, Kind.DUPLICATE, field, references.uuid_text(value) if binary else value) for row, value in values.iter_rows()]


def _update(unit: Unit, frame: pl.DataFrame) -> None:
    if frame.is_empty():
        return
    connection, statements = unit.connection, unit.statements
    assert not frame[TARGET].is_duplicated().any(), "two free records were meant for one row"
    with connection.cursor() as cursor:
        copy_frame(cursor, statements.targets, ["row", "target"], frame.select("row", target=TARGET).sort("target"))
        locked = cursor.execute(statements.lock).fetchone()
        if locked is None or locked[0] != frame.height:
            raise MovedError
        broken: set[int] = set()
        for code, statement in statements.broken:
            rows = {row[0] for row in cursor.execute(statement)}
            unit.reject(rule_problems(unit, frame.filter(pl.col("row").is_in(list(rows))), code))
            broken |= rows
        if broken:
            cursor.execute(statements.forget, [list(broken)])
        changed = {row[0] for row in cursor.execute(statements.update)}
        elsewhere = set[int]().union(*(_replace_children(unit, child, frame, broken) for child in statements.children)) - changed
        if elsewhere and statements.touch is not None:
            cursor.execute(statements.touch, {"rows": sorted(elsewhere)})
        changed |= elsewhere
    matched = frame.height - len(broken)
    unit.updated += matched
    unit.unchanged += matched - len(changed)


def _replace_children(unit: Unit, child: ChildStatements, frame: pl.DataFrame, broken: Iterable[int]) -> set[int]:
    """Rows whose children were others than the record brings, and are its now."""
    rows = sorted(set(_bringing(frame, child)).difference(broken))
    if not rows:
        return set()
    changed = sorted(row[0] for row in unit.connection.execute(child.changed, {"rows": rows}))
    if changed:
        unit.connection.execute(child.delete, {"rows": changed})
        unit.connection.execute(child.insert, {"rows": changed})
    return set(changed)
