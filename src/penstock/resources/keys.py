"""Canonical natural keys, made here and nowhere else.

Python's, PostgreSQL's and Polars' lower-casing differ beyond ASCII, so nobody else folds: PostgreSQL lower-cases ASCII only
(`COLLATE "C"`), and where that is not the canonical form, the form itself is stored beside the value. The unique index stands on
`coalesce(<field>_key, lower(<field> COLLATE "C"))`; for almost every row the column beside is null.
"""

import unicodedata

import polars as pl

from penstock.resources.emails import ascii_domain
from penstock.resources.model import Field
from penstock.resources.types import KEY


def ascii_lower(value: str) -> str:
    """What PostgreSQL's `lower(value COLLATE "C")` yields."""
    return value.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def canonical(value: str, field: Field, folds: bool) -> str:
    """The form under which two values of a natural key are the same key; `folds`: compared without case.

    Texts equal after Unicode's canonical composition and case folding are one key; an e-mail's domain is compared in its ASCII form.
    LATIN CAPITAL I WITH DOT ABOVE stays apart from `i`.
    """
    if not folds:
        return value
    if value.isascii():
        return value.lower()
    local, at, domain = value.rpartition("@")
    if field.email and at:
        host = domain.lower() if domain.isascii() else ascii_domain(domain) or _fold(domain)
        return _fold(local) + at + host
    return _fold(value)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def canonical_series(values: pl.Series, field: Field, folds: bool) -> pl.Series:
    """`canonical` of a whole String column; nulls stay."""
    return key_columns(values, field, folds)[0] if folds else values


def key_columns(values: pl.Series, field: Field, folds: bool) -> tuple[pl.Series, pl.Series]:
    """Two String columns: the canonical key, and what is stored in `Resource.key_column`.

    The second is null wherever lower-casing ASCII gives the canonical key, so that coalesce(second, ascii_lower(value)) = first.
    """
    nothing = pl.Series(f"{field.name}_key", [], dtype=pl.String).extend_constant(None, len(values))
    if not folds:
        return values.alias(KEY), nothing
    lowered = values.str.to_lowercase().alias(KEY)
    wide = values.filter(values.str.len_bytes() != values.str.len_chars()).unique()
    if wide.is_empty():
        return lowered, nothing
    keys = [canonical(v, field, folds) for v in wide]
    stored = [k if k != ascii_lower(v) else None for v, k in zip(wide, keys, strict=True)]
    table = pl.DataFrame(
        {"value": wide, "wide_key": keys, "stored": stored}, schema=dict.fromkeys(("value", "wide_key", "stored"), pl.String)
    )
    found = pl.DataFrame([values.alias("value"), lowered]).join(table, on="value", how="left", maintain_order="left")
    return found.select(pl.coalesce("wide_key", KEY).alias(KEY)).to_series(), found["stored"].alias(nothing.name)
