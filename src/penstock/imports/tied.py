"""The tied records of a wave: settled in memory in file order, then written in that order, in a transaction of their own."""

import uuid
from collections.abc import Callable
from itertools import groupby
from typing import Any

import polars as pl
from psycopg.rows import dict_row

from penstock.crashpoints import CrashPoint, reach
from penstock.imports import references
from penstock.imports.copying import copy_frame
from penstock.imports.defaults import as_new, typed_default
from penstock.imports.free import elements
from penstock.imports.settle import Mirror, Row, Settler, Values, Write
from penstock.imports.unit import Unit
from penstock.resources.model import FieldType, Resource


def merge_tied(unit: Unit, frame: pl.DataFrame) -> None:
    """Apply the records in file order. Raises UniqueViolation when others take a key meanwhile; the unit then starts over."""
    resource, task = unit.task.resource, unit.task
    frame, problems = references.settle(unit.connection, resource, task.targets, frame.sort("row"))
    unit.reject(problems)
    if frame.is_empty():
        return
    cleared = {f.name: typed_default(f, unit.now) for f in resource.fields}
    settler = Settler(resource, task.options, _mirror(unit, frame), cleared, _rule_checker(resource, frame.schema))
    for record, fresh in zip(frame.iter_rows(named=True), as_new(resource, frame, unit.now).iter_rows(named=True), strict=True):
        settler.apply(record, fresh)
    outcome = settler.outcome
    _write_rows(unit, outcome.writes)
    _write_children(unit, outcome.children, frame.schema)
    unit.imported += outcome.imported
    unit.updated += outcome.updated
    unit.unchanged += outcome.unchanged
    unit.reject(outcome.problems)
    reach(CrashPoint.TIED_APPLIED)


def _mirror(unit: Unit, frame: pl.DataFrame) -> Mirror:
    """Every stored row that the records can find: by their ids and keys, and by references to the resource itself."""
    resource = unit.task.resource
    ids, keys = {resource.primary_key}, {"key"} if resource.natural_key else set()
    for reference in resource.references:
        if reference.resource == resource.name:
            ids.add(reference.field)
            keys |= {reference.alias} if reference.alias else set()
    parameters = {"ids": _ids(resource, frame, ids), "keys": _distinct(frame, keys)}
    mirror = Mirror(resource)
    with unit.connection.cursor(row_factory=dict_row) as cursor:
        for values in cursor.execute(unit.statements.load, parameters):
            key = values.pop("key") if resource.natural_key else None
            values.pop("key", None)
            mirror.add(Row(_packed(values), key, {child.field: [] for child in resource.children}))
    _load_children(unit, mirror)
    return mirror


def _load_children(unit: Unit, mirror: Mirror) -> None:
    parents = [_unpacked(unit.task.resource, key) for key in mirror.rows]
    for child in unit.statements.children if parents else ():
        names = [f.name for f in child.child.fields]
        for parent, *values in unit.connection.execute(child.stored, {"ids": parents}):
            key = parent.bytes if isinstance(parent, uuid.UUID) else parent
            mirror.rows[key].children[child.child.field].append(_packed(dict(zip(names, values, strict=True))))


def _distinct(frame: pl.DataFrame, names: set[str]) -> list[Any]:
    return sorted(set().union(*(frame[name].drop_nulls().to_list() for name in names)))


def _ids(resource: Resource, frame: pl.DataFrame, names: set[str]) -> list[Any]:
    return [_unpacked(resource, value) for value in _distinct(frame, names)]


def _unpacked(resource: Resource, key: Any) -> Any:
    return uuid.UUID(bytes=key) if resource.by_name[resource.primary_key].type is FieldType.UUID else key


def _packed(values: Values) -> Values:
    """As the frame holds them: UUIDs are bytes there."""
    return {name: value.bytes if isinstance(value, uuid.UUID) else value for name, value in values.items()}


def _rule_checker(resource: Resource, schema: pl.Schema) -> Callable[[Values], str | None]:
    """The first rule that a merged row breaks. The same few combinations of values come again and again, so each is evaluated once."""
    if not resource.rules:
        return lambda _values: None
    names = sorted({name for rule in resource.rules for name in rule.fields})
    types = {name: schema[name] for name in names}
    rules = [(rule.code, pl.sql_expr(rule.expression)) for rule in resource.rules]
    known: dict[tuple[Any, ...], str | None] = {}

    def breaks(values: Values) -> str | None:
        combination = tuple(values[name] for name in names)
        if combination not in known:
            row = pl.DataFrame([combination], schema=types, orient="row")
            known[combination] = next((code for code, rule in rules if row.select(rule).item() is False), None)
        return known[combination]

    return breaks


def _write_rows(unit: Unit, writes: list[Write]) -> None:
    """In order, runs of the same kind together: psycopg sends each run through one pipeline."""
    resource = unit.task.resource
    ids = [f.name for f in resource.fields if f.type is FieldType.UUID]
    with unit.connection.cursor() as cursor:
        for insert, run in groupby(writes, key=lambda write: write.insert):
            statement = unit.statements.insert_row if insert else unit.statements.update_row
            cursor.executemany(statement, [_parameters(write.values, ids) for write in run])


def _parameters(values: Values, ids: list[str]) -> Values:
    return values | {name: uuid.UUID(bytes=values[name]) for name in ids if values[name] is not None}


def _write_children(unit: Unit, children: dict[str, dict[Any, list[Values]]], schema: pl.Schema) -> None:
    resource = unit.task.resource
    for statements in unit.statements.children:
        child = statements.child
        changed = children[child.field]
        if not changed:
            continue
        with unit.connection.cursor() as cursor:
            cursor.execute(statements.delete_of, {"ids": [_unpacked(resource, key) for key in changed]})
            types = {child.parent_column: schema[resource.primary_key], child.field: schema[child.field]}
            frame = pl.DataFrame(list(changed.items()), schema=types, orient="row")
            copy_frame(cursor, statements.table, statements.copy_columns, elements(frame, child, child.parent_column))
