"""A whole record's rules: what must be there, what must fit together, and the keys that it is known by."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from penstock.resources import keys
from penstock.resources.checks.cells import Column, column
from penstock.resources.checks.columns import check_columns
from penstock.resources.checks.nested import child_column, list_column
from penstock.resources.checks.options import Checked, CheckOptions
from penstock.resources.model import NOW, Field, FieldType, Resource, Rule
from penstock.resources.problems import PROBLEM_COLUMNS, Kind, Problem
from penstock.resources.types import BROKEN_IF_NEW, KEY, ROW, good_schema


def check(resource: Resource, frame: pl.DataFrame, wrong: list[Problem], options: CheckOptions) -> Checked:
    """Check a chunk's records; a function of its arguments but for `now()` defaults in rules.

    `frame`: `row` (Int64) and String columns named by fields, aliases and children, as in `penstock.formats.model.Parsed`; those that it
    lacks hold no value. `wrong`: cells that were null in the frame because their JSON type did not fit.
    """
    if not frame[ROW].is_sorted():
        frame = frame.sort(ROW)
    typed, problems = check_columns(frame, _columns(resource, options))
    if wrong:
        problems.insert(0, _mistyped(resource, wrong))
    problems += [_missing(frame, names, shown) for names, shown in _alternatives(resource, options)]
    if wrong:
        problems = [_without_echoes(resource, options, problems[0], p) if n else p for n, p in enumerate(problems)]
    problems += _broken_rules(resource, frame, typed, pl.concat([PROBLEM_COLUMNS.to_frame(), *problems]), options)
    told = pl.concat([PROBLEM_COLUMNS.to_frame(), *problems]).sort(ROW, maintain_order=True)
    sound = typed.join(told.select(ROW), on=ROW, how="anti", maintain_order="left") if told.height else typed
    return Checked(_finished(resource, sound, options), told)


def typed_defaults(fields: Sequence[Field], now: datetime) -> pl.DataFrame:
    """One row: the default of every field that has one, typed; raises ValueError naming what is wrong with a default."""
    given = [f for f in fields if f.default is not None]
    texts = {f.name: [now.isoformat() if f.default == NOW else f.default] for f in given}
    frame = pl.DataFrame({ROW: [1], **texts}, schema={ROW: pl.Int64, **dict.fromkeys(texts, pl.String)})
    typed, problems = check_columns(frame, [field_column(f, required=False, is_key=False, options=CheckOptions()) for f in given])
    if problems:
        first = pl.concat(problems).row(0, named=True)
        raise ValueError(f"{first['field']}: {first['value']!r} breaks the field's own rules ({first['kind']}: {first['detail']})")
    if blank := next((f for f in given if typed[f.name].null_count()), None):
        raise ValueError(f"{blank.name}: {blank.default!r} is no value of the type {blank.type}")
    return typed


def field_column(field: Field, *, required: bool, is_key: bool, options: CheckOptions) -> Column:
    if field.type is FieldType.STRINGS:
        return list_column(field, required=required)
    return column(field, required=required, is_key=is_key, options=options)


def _columns(resource: Resource, options: CheckOptions) -> list[Column]:
    key_fields = {resource.primary_key, resource.natural_key, *(r.field for r in resource.references)}
    either = {r.field for r in resource.references if r.alias}  # their absence is judged together with their alias
    columns = [
        field_column(f, required=f.required and not options.partial and f.name not in either, is_key=f.name in key_fields, options=options)
        for f in resource.fields
    ]
    for reference in resource.references:
        if reference.alias and reference.alias_key:
            field = replace(reference.alias_key, name=reference.alias, required=False, default=None)
            columns.append(field_column(field, required=False, is_key=True, options=options))
    # A child is always written whole: there is no stored one that it could leave as it is.
    whole = replace(options, partial=False)
    children = [
        child_column(c, [field_column(f, required=f.required, is_key=False, options=whole) for f in c.fields]) for c in resource.children
    ]
    return columns + children


def _alternatives(resource: Resource, options: CheckOptions) -> list[tuple[list[str], str]]:
    """Fields of which one must be there, and the one to name when none is."""
    if options.partial:
        names = [resource.natural_key, resource.primary_key] if resource.natural_key else [resource.primary_key]
        return [(names, names[0])]
    return [([r.field, r.alias], r.field) for r in resource.references if r.alias and resource.by_name[r.field].required]


def _missing(frame: pl.DataFrame, names: Sequence[str], shown: str) -> pl.DataFrame:
    present = [pl.col(n).is_null() | (pl.col(n) == "") for n in names if n in frame.columns]
    absent = frame.filter(pl.all_horizontal(present)) if present else frame
    cell = pl.col(shown) if shown in frame.columns else pl.lit(None, dtype=pl.String)
    told = {ROW: ROW, "kind": pl.lit(Kind.REQUIRED.value), "field": pl.lit(shown), "value": cell, "detail": pl.lit(None, dtype=pl.String)}
    return absent.select(**told).select(PROBLEM_COLUMNS.names())


def _mistyped(resource: Resource, wrong: list[Problem]) -> pl.DataFrame:
    order = {name: n for n, name in enumerate(resource.accepted)}
    told = sorted(wrong, key=lambda p: (p.row, order.get(p.field or "", -1)))
    return pl.DataFrame([(p.row, p.kind.value, p.field, p.value, p.detail) for p in told], schema=PROBLEM_COLUMNS, orient="row")


def _without_echoes(resource: Resource, options: CheckOptions, wrong: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """What was found, without `required` where the value was there but of a wrong JSON type."""
    names = {name: shown for group, shown in _alternatives(resource, options) for name in group}
    there = wrong.select(ROW, "field")
    echoed = pl.concat([there, there.with_columns(pl.col("field").replace(names))]).unique().with_columns(kind=pl.lit(Kind.REQUIRED.value))
    return found.join(echoed, on=[ROW, "field", "kind"], how="anti", maintain_order="left")


def _broken_rules(
    resource: Resource, frame: pl.DataFrame, typed: pl.DataFrame, known: pl.DataFrame, options: CheckOptions
) -> list[pl.DataFrame]:
    """Rules that a record breaks whatever is stored. Fields with a problem of their own are not judged again."""
    problems = []
    for rule in resource.rules:
        judged = _with_defaults(resource, rule, typed.lazy()) if options.nulls_are_final else typed.lazy().drop_nulls(rule.fields)
        rows = judged.filter(_breaks(rule)).select(ROW).collect()
        rows = rows.join(known.filter(pl.col("field").is_in(rule.fields)), on=ROW, how="anti", maintain_order="left")
        if rows.height:
            told = frame.join(rows, on=ROW, how="semi", maintain_order="left")
            cell = pl.col(rule.field) if rule.field in frame.columns else pl.lit(None, dtype=pl.String)
            shape = {ROW: ROW, "kind": pl.lit(Kind.RULE.value), "field": pl.lit(rule.field), "value": cell, "detail": pl.lit(rule.code)}
            problems.append(told.select(**shape).select(PROBLEM_COLUMNS.names()))
    return problems


def _breaks(rule: Rule) -> pl.Expr:
    """Only false breaks a rule, as with PostgreSQL's CHECK."""
    return ~pl.sql_expr(rule.expression).fill_null(value=True)


def _with_defaults(resource: Resource, rule: Rule, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The fields that the rule reads as an insert would write them."""
    defaults = typed_defaults([resource.by_name[n] for n in rule.fields], datetime.now(UTC))
    return frame.with_columns(pl.col(n).fill_null(pl.lit(defaults[n]).first()) for n in defaults.columns if n != ROW)


def _finished(resource: Resource, sound: pl.DataFrame, options: CheckOptions) -> pl.DataFrame:
    """Sound records with canonical references, keys, and the rule that each would break as a new row."""
    added = [
        keys.canonical_series(sound[r.alias], r.alias_key, r.alias_folds).alias(r.alias)
        for r in resource.references
        if r.alias and r.alias_key
    ]
    if resource.natural_key:
        key, stored = keys.key_columns(sound[resource.natural_key], resource.by_name[resource.natural_key], resource.folds_case)
        added += [key.alias(KEY), stored] if resource.key_column else [key.alias(KEY)]
    if resource.rules:
        added.append(_broken_if_new(resource, sound, options))
    return sound.with_columns(added).select(good_schema(resource).names())


def _broken_if_new(resource: Resource, sound: pl.DataFrame, options: CheckOptions) -> pl.Series:
    codes = pl.Series(BROKEN_IF_NEW, [], dtype=pl.String).extend_constant(None, sound.height)
    if options.nulls_are_final:
        return codes  # what would be broken was reported
    for rule in reversed(resource.rules):
        broken = _with_defaults(resource, rule, sound.lazy()).select(_breaks(rule)).collect().to_series()
        codes = pl.Series([rule.code], dtype=pl.String).new_from_index(0, sound.height).zip_with(broken, codes)
    return codes.alias(BROKEN_IF_NEW)
