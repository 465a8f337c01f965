"""Frames and findings for tests of checks."""

from typing import Any

import polars as pl

from penstock.resources.checks import Checked, CheckOptions, check
from penstock.resources.model import Resource
from penstock.resources.problems import Problem, render
from penstock.resources.registry import Registry

USER: dict[str, str | None] = {"email": "ann@example.com", "name": "Ann"}
ARTICLE: dict[str, str | None] = {"slug": "a-b", "title": "t", "body": "b", "author_id": "7d444840-9dc0-11d1-b245-5ffdce74fad2"}
COMMENT: dict[str, str | None] = {"article_id": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "user_email": "ann@example.com", "body": "b"}
PRODUCT: dict[str, str | None] = {"id": "abc123", "price": "49.99", "stock": "100"}
SOUND = {"users": USER, "articles": ARTICLE, "comments": COMMENT, "products": PRODUCT}


def builtin(name: str) -> Resource:
    return Registry.load().get(name)


def run(resource: Resource, *records: dict[str, str | None], wrong: list[Problem] | None = None, **options: Any) -> Checked:
    names = list(dict.fromkeys(name for record in records for name in record))
    rows = [{"row": n, **record} for n, record in enumerate(records, 1)]
    frame = pl.DataFrame(rows, schema={"row": pl.Int64, **dict.fromkeys(names, pl.String)})
    return check(resource, frame, wrong or [], CheckOptions(**options))


def codes(
    resource: Resource, *records: dict[str, str | None], wrong: list[Problem] | None = None, **options: Any
) -> list[tuple[int, str, str]]:
    """Row, field and code of every problem."""
    problems = run(resource, *records, wrong=wrong, **options).problems
    return [(p["row"], p["field"], render(p, resource)["code"]) for p in problems.iter_rows(named=True)]


def value(resource: Resource, field: str, text: str | None, **options: Any) -> Any:
    """The typed value of one cell in an otherwise sound record, or the message of its problem."""
    checked = run(resource, {**SOUND[resource.name], field: text}, **options)
    if checked.good.height:
        return checked.good[field].to_list()[0]
    return render(checked.problems.row(0, named=True), resource)["message"]
