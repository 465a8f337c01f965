"""One cell's rules as expressions over its column.

Each field is checked in two steps. `value` and `accepted` run over the whole column and may say no too often, never too seldom: they are
what nearly every cell goes through. `settle` then looks at the cells that were not accepted, exactly, and names what is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
import pyarrow as pa

from penstock.resources import emails
from penstock.resources.arrow import ArrowArray
from penstock.resources.checks.options import CheckOptions
from penstock.resources.model import Field, FieldType
from penstock.resources.numbers import exact_decimal, largest
from penstock.resources.problems import Kind
from penstock.resources.types import polars_type

FINDINGS = pl.Schema({"at": pl.UInt32, "field": pl.String, "value": pl.String, "kind": pl.String, "detail": pl.String})

# PostgreSQL's text cannot hold NUL. Directional overrides, embeddings and isolates make a text read as another;
# the marks that Arabic and Hebrew need (U+200E, U+200F) may stay.
FORBIDDEN = "[\\x00\u202a-\u202e\u2066-\u2069]"
FORBIDDEN_HINT = "a text without NUL and without directional controls (U+202A to U+202E, U+2066 to U+2069)"
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_NO_UUID = "0" * 32  # stands in for what is missing, so that the places of the others hold
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_INT32 = (Decimal(-(2**31)), Decimal(2**31 - 1))
_TEXT = pl.col("text")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Exact answers for some cells: `values` in their order, `findings` (FINDINGS) with `at` counting them from 0."""

    values: pl.Series
    findings: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is checked. `value`: the typed values, null where there is none; `accepted`: where nothing more is to be asked."""

    name: str
    type: pl.DataType
    value: pl.Expr
    accepted: pl.Expr
    settle: Callable[[pl.Series], Verdict]


@dataclass(frozen=True, slots=True)
class _Fault:
    """A rule, broken where `broken` is true. `also`: shown beside the first fault, not instead of it."""

    kind: Kind
    broken: pl.Expr
    detail: pl.Expr | str | None = None
    also: bool = False


def column(field: Field, *, required: bool, is_key: bool, options: CheckOptions) -> Column:
    """`is_key`: an empty text is no key. `required`: there must be a value; it is not always what the field says."""
    value, accepted, faults = _RULES[field.type](field, options)
    blank = is_blank_null(field, is_key=is_key)
    cell = pl.col(field.name)
    if blank and field.type is FieldType.STRING:
        accepted &= cell != ""
    accepted = accepted.fill_null(value=False)
    if not required:
        accepted |= cell.is_null()

    def settle(cells: pl.Series) -> Verdict:
        frame = _prepared(field, options, cells, blank=blank)
        told = [_Fault(Kind.REQUIRED, _TEXT.is_null()), *faults] if required else faults
        return _settled(field, frame, told)

    return Column(field.name, polars_type(field), value, accepted, settle)


def is_blank_null(field: Field, *, is_key: bool) -> bool:
    """Whether an empty text means no value; only in free text that may be absent it is a value."""
    return field.type is not FieldType.STRING or is_key or field.required or field.email or field.pattern is not None or bool(field.enum)


def bounds(field: Field) -> tuple[Decimal, Decimal]:
    """The least and the largest number that the field takes."""
    if field.type is FieldType.INTEGER:
        least, most = _INT32
    else:
        most = largest(field.precision or 38, field.scale)
        least = -most
    return (least if field.minimum is None else max(least, field.minimum)), (most if field.maximum is None else min(most, field.maximum))


def _prepared(field: Field, options: CheckOptions, cells: pl.Series, *, blank: bool) -> pl.DataFrame:
    """The cells as `text` and `value`, with what only Python can tell as further columns."""
    frame = pl.DataFrame({"at": pl.int_range(len(cells), dtype=pl.UInt32, eager=True), "text": cells, "raw": cells})
    if blank:
        frame = frame.with_columns(text=pl.when(_TEXT != "").then(_TEXT))
    if field.type is FieldType.DATETIME:
        return frame.with_columns(options.datetimes.read(frame["text"]).rename({"detail": "wrong"}))
    if field.type is FieldType.NUMBER:
        return _with_decimals(field, frame)
    if field.type is FieldType.STRING:
        return _with_international(frame) if field.email else frame.with_columns(value="text")
    value, _, _ = _RULES[field.type](field, options)
    return frame.with_columns(frame.select(_TEXT.alias(field.name)).select(value.alias("value")))


def _settled(field: Field, frame: pl.DataFrame, faults: Sequence[_Fault]) -> Verdict:
    """In few steps: each takes 0.4 ms however few the rows are, and there are a few columns with a bad cell in nearly every wave."""
    exclusive, beside = [f for f in faults if not f.also], [f for f in faults if f.also]
    numbers = [pl.when(f.broken).then(pl.lit(n, dtype=pl.UInt8)) for n, f in enumerate(exclusive)]
    told = frame.with_columns(first=pl.coalesce(*numbers))
    is_nth = [pl.col("first") == n for n in range(len(exclusive))]
    kind = pl.coalesce(*(pl.when(nth).then(pl.lit(f.kind.value)) for nth, f in zip(is_nth, exclusive, strict=True)))
    detail = pl.coalesce(*(pl.when(nth).then(_detail(f)) for nth, f in zip(is_nth, exclusive, strict=True)))
    findings = _findings(field, told, pl.col("first").is_not_null(), kind, detail)
    if not beside:
        return Verdict(told.select(pl.when(pl.col("first").is_null()).then("value").alias(field.name)).to_series(), findings)
    shown_beside = pl.col("first").is_null() | pl.col("first").is_in(
        [n for n, f in enumerate(exclusive) if f.kind in (Kind.TOO_LONG, Kind.TOO_SHORT)]
    )
    more = [_findings(field, told, f.broken & shown_beside, pl.lit(f.kind.value), _detail(f)) for f in beside]
    findings = pl.concat([findings, *more]).sort("at", maintain_order=True)
    wrong = findings["at"].unique()
    return Verdict(told.select(pl.when(~pl.col("at").is_in(wrong.implode())).then("value").alias(field.name)).to_series(), findings)


def _detail(fault: _Fault) -> pl.Expr:
    return fault.detail if isinstance(fault.detail, pl.Expr) else pl.lit(fault.detail, dtype=pl.String)


def _findings(field: Field, frame: pl.DataFrame, where: pl.Expr, kind: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    columns = {"at": "at", "field": pl.lit(field.name), "value": "raw", "kind": kind, "detail": detail}
    return frame.lazy().filter(where).select(**columns).cast(FINDINGS).collect()


_TypeRules = tuple[pl.Expr, pl.Expr, list[_Fault]]


def _string(field: Field, _options: CheckOptions) -> _TypeRules:
    cell = pl.col(field.name)
    size, accepted = cell.str.len_bytes(), []
    faults = [_Fault(Kind.INVALID, _TEXT.str.contains(FORBIDDEN), FORBIDDEN_HINT)]
    if field.enum:
        accepted.append(cell.is_in(field.enum))
        faults.append(_Fault(Kind.INVALID_ENUM, ~_TEXT.is_in(field.enum), ", ".join(field.enum)))
    else:
        accepted.append(~cell.str.contains(FORBIDDEN))
    if field.email:
        accepted += [size <= emails.ALWAYS_FITS, cell.str.contains(emails.ASCII_SHAPE)]
        faults.insert(0, _Fault(Kind.INVALID_FORMAT, ~pl.col("is_email"), "a valid e-mail address"))
    if field.pattern:
        accepted.append(cell.str.contains(field.pattern))
        faults.insert(
            1, _Fault(Kind.INVALID_FORMAT, ~_TEXT.str.contains(field.pattern), field.pattern_hint or f"text that matches {field.pattern}")
        )
    if field.min_length:
        accepted.append(cell.str.len_chars() >= field.min_length)
        faults.append(_Fault(Kind.TOO_SHORT, _TEXT.str.len_chars() < field.min_length, str(field.min_length)))
    if field.max_length is not None:
        accepted.append(size <= field.max_length)  # a text has at least as many bytes as characters
        faults.append(_Fault(Kind.TOO_LONG, _TEXT.str.len_chars() > field.max_length, str(field.max_length)))
    if field.email:
        faults.append(
            _Fault(
                Kind.INVALID_FORMAT,
                _TEXT.str.contains(emails.LONG_DOMAIN),
                f"an e-mail address with at most {emails.MAX_DOMAIN} characters after the @",
            )
        )
    if field.max_words is not None:
        accepted.append(size < 2 * field.max_words)  # a word and a space are two bytes
        faults.append(_Fault(Kind.TOO_MANY_WORDS, _TEXT.str.count_matches(r"\S+") > field.max_words, str(field.max_words), also=True))
    return cell, pl.all_horizontal(accepted), faults


def _uuid(field: Field, _options: CheckOptions) -> _TypeRules:
    cell = pl.col(field.name)
    fits = cell.str.contains(_UUID)
    value = pl.when(fits).then(cell).map_batches(_uuid_bytes, return_dtype=pl.Binary, is_elementwise=True)
    return value, fits.fill_null(value=False), [_unparsed(pl.lit("a UUID"))]


def _uuid_bytes(texts: pl.Series) -> pl.Series:
    """Well-formed UUIDs as their 16 bytes, all of them in one call: Polars' own decoding takes three times as long (15 ms for 100,000)."""
    digits = texts.fill_null(_NO_UUID).str.join("").item().replace("-", "")
    packed = pa.Array.from_buffers(pa.binary(16), len(texts), [None, pa.py_buffer(bytes.fromhex(digits))])
    values = pl.Series(texts.name, ArrowArray(packed))
    return values if not texts.null_count() else pl.select(pl.when(texts.is_not_null()).then(values).alias(texts.name)).to_series()


def _boolean(field: Field, _options: CheckOptions) -> _TypeRules:
    cell = pl.col(field.name)
    # The two comparisons cost a sixth of a lookup; other spellings are looked up when the column is settled.
    quick = pl.when(cell == "true").then(statement=True).when(cell == "false").then(statement=False)
    spelled = cell.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
    return pl.coalesce(quick, spelled), pl.coalesce(quick, spelled).is_not_null(), [_unparsed(pl.lit("true or false (or yes, no, 1, 0)"))]


def _integer(field: Field, _options: CheckOptions) -> _TypeRules:
    cell = pl.col(field.name)
    value = pl.when(~cell.str.starts_with("+")).then(cell.cast(pl.Int32, strict=False))
    least, most = bounds(field)
    inside = value.is_between(int(least), int(most))
    shape = _Fault(Kind.INVALID, ~_TEXT.str.contains("^-?[0-9]+$"), "a whole number")
    outside = pl.col("value").is_null() | ~pl.col("value").is_between(int(least), int(most))
    return value, inside, [shape, _Fault(Kind.OUT_OF_RANGE, _TEXT.is_not_null() & outside, f"between {least} and {most}")]


def _number(field: Field, _options: CheckOptions) -> _TypeRules:
    cell, least, most = pl.col(field.name), *bounds(field)
    whole = max((field.precision or 38) - field.scale, 1)
    fraction = rf"(?:\.[0-9]{{1,{field.scale}}})?" if field.scale else ""
    # The cast alone would cut digits that do not fit the scale.
    value = pl.when(cell.str.contains(rf"^-?[0-9]{{1,{whole}}}{fraction}$")).then(cell.cast(polars_type(field), strict=False))
    digits = f"a number with at most {field.scale} digits after the decimal point; nothing is rounded" if field.scale else "a whole number"
    faults = [
        _Fault(Kind.INVALID, pl.col("wrong") == Kind.INVALID.value, "a decimal number"),
        _Fault(Kind.INVALID, pl.col("wrong") == Kind.INVALID_FORMAT.value, digits),
        _Fault(
            Kind.OUT_OF_RANGE,
            (pl.col("wrong") == Kind.OUT_OF_RANGE.value) | ~pl.col("value").is_between(least, most),
            f"between {least:f} and {most:f}",
        ),
    ]
    return value, value.is_between(least, most), faults


def _datetime(field: Field, options: CheckOptions) -> _TypeRules:
    value = options.datetimes.common(pl.col(field.name))
    return value, value.is_not_null(), [_Fault(Kind.INVALID, _TEXT.is_not_null() & pl.col("wrong").is_not_null(), pl.col("wrong"))]


def _unparsed(detail: pl.Expr) -> _Fault:
    return _Fault(Kind.INVALID, _TEXT.is_not_null() & pl.col("value").is_null(), detail)


_RULES: dict[FieldType, Callable[[Field, CheckOptions], _TypeRules]] = {
    FieldType.STRING: _string,
    FieldType.UUID: _uuid,
    FieldType.BOOLEAN: _boolean,
    FieldType.INTEGER: _integer,
    FieldType.NUMBER: _number,
    FieldType.DATETIME: _datetime,
}


def _with_decimals(field: Field, frame: pl.DataFrame) -> pl.DataFrame:
    """`value`, and in `wrong` the kind that `exact_decimal` gave instead; each distinct text once."""
    texts = frame["text"].drop_nulls().unique()
    answers = [exact_decimal(text, field.precision or 38, field.scale) for text in texts]
    table = pl.DataFrame(
        {
            "text": texts,
            "value": pl.Series([a if isinstance(a, Decimal) else None for a in answers], dtype=polars_type(field)),
            "wrong": pl.Series([None if isinstance(a, Decimal) else a.value for a in answers], dtype=pl.String),
        }
    )
    return frame.join(table, on="text", how="left", maintain_order="left")


def _with_international(frame: pl.DataFrame) -> pl.DataFrame:
    """`is_email`, and the text itself as `value`. Only texts beyond ASCII go through Python, each distinct one once."""
    plain = _TEXT.str.contains(emails.ASCII_SHAPE) & ~_TEXT.str.contains(emails.LONG_PART)
    texts = frame["text"].filter(frame["text"].str.len_bytes() != frame["text"].str.len_chars()).unique()
    if texts.is_empty():
        return frame.with_columns(is_email=plain, value="text")
    table = pl.DataFrame({"text": texts, "wide": pl.Series([emails.is_international(t) for t in texts], dtype=pl.Boolean)})
    joined = frame.join(table, on="text", how="left", maintain_order="left")
    return joined.with_columns(is_email=pl.coalesce("wide", plain), value="text")
