"""Columns of text become columns of values: every cell at once, then the few that were not accepted, exactly."""

from collections.abc import Sequence

import polars as pl

from penstock.resources.checks.cells import Column, Verdict
from penstock.resources.problems import PROBLEM_COLUMNS
from penstock.resources.types import ROW

_DOUBT = "?"  # not in any identifier, so a mark's name meets no column's


def check_columns(frame: pl.DataFrame, columns: Sequence[Column]) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Typed values of every row, and a frame of problems (PROBLEM_COLUMNS) for each column that has any.

    `frame`: `row` and String columns; one that it lacks holds no value. A cell with a problem is null in the result.
    """
    whole = frame.with_columns(pl.lit(None, dtype=pl.String).alias(c.name) for c in columns if c.name not in frame.columns)
    doubts = [(~c.accepted).alias(_DOUBT + c.name) for c in columns]
    passed = whole.lazy().select(ROW, *(c.value.alias(c.name) for c in columns), *doubts).collect()
    problems = []
    typed = passed.select(ROW, *(c.name for c in columns))
    for column in columns:
        doubtful = passed[_DOUBT + column.name]
        if not doubtful.any():
            continue
        at = doubtful.arg_true()
        verdict = column.settle(whole[column.name].gather(at))
        # Where every doubt was right, all these records are rejected and their values do not matter.
        if verdict.findings["at"].n_unique() < len(at):
            typed = typed.with_columns(_put(typed[column.name], at, verdict.values).cast(column.type))
        if verdict.findings.height:
            problems.append(_as_problems(whole[ROW].gather(at), verdict))
    return typed, problems


def _put(values: pl.Series, at: pl.Series, instead: pl.Series) -> pl.Series:
    """Not `Series.scatter`, which knows neither decimals nor lists."""
    if len(at) == len(values):
        return instead.alias(values.name)
    places = pl.int_range(len(values), dtype=pl.UInt32, eager=True)
    places = places.scatter(at, pl.int_range(len(values), len(values) + len(at), dtype=pl.UInt32, eager=True))
    return pl.concat([values, instead.cast(values.dtype).alias(values.name)]).gather(places)


def _as_problems(rows: pl.Series, verdict: Verdict) -> pl.DataFrame:
    located = verdict.findings.with_columns(rows.gather(verdict.findings["at"]).alias(ROW))
    return located.select(PROBLEM_COLUMNS.names())
