"""Cells that hold JSON: lists of texts, and children. Children's fields become columns too and go through the same checks.

Each distinct cell is decoded once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from penstock.resources.checks.cells import FINDINGS, FORBIDDEN, FORBIDDEN_HINT, Column, Verdict
from penstock.resources.checks.columns import check_columns
from penstock.resources.model import Child, Field, FieldType
from penstock.resources.problems import Kind
from penstock.resources.types import ROW, child_type, polars_type

MAX_CHILDREN = 100_000  # in a record; each may have a problem in each of its fields
MAX_FAULTY_CHILDREN = 100  # of a list whose problems are told one by one; the others are counted
_LIST_HINT = "a JSON array of texts"
_CHILDREN_HINT = "a JSON array of objects"
_TOO_MANY_HINT = f"an array of at most {MAX_CHILDREN} objects"
_TEXTS = (FieldType.STRING, FieldType.UUID, FieldType.DATETIME)
_JSON_HINTS = {
    FieldType.STRING: "a text",
    FieldType.UUID: "a UUID",
    FieldType.DATETIME: "a text with a date and time",
    FieldType.INTEGER: "a whole number",
    FieldType.NUMBER: "a decimal number",
    FieldType.BOOLEAN: "true or false",
    FieldType.STRINGS: _LIST_HINT,
}
# A text, because comparing texts with msgspec.UNSET took most of the decoder's time. A field that holds it is looked at with care.
_ABSENT = "\0"
_texts = msgspec.json.Decoder(list[str])
_PLACED = {"family": pl.UInt32, "index": pl.Int64, "name": pl.String, "value": pl.String, "kind": pl.String, "detail": pl.String}
_sizes = msgspec.json.Decoder(list[msgspec.defstruct("Counted", [], gc=False)])  # type: ignore[misc]  # the type is made here
_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def list_column(field: Field, *, required: bool) -> Column:
    """A field that is a list of texts."""
    kind = polars_type(field)

    def settle(cells: pl.Series) -> Verdict:
        distinct = _distinct(cells)
        lists, faulty = [], {}
        for cell in distinct:
            items, hint = _decode_list(cell)
            lists.append(items)
            if hint:
                faulty[cell] = hint
        # Through Arrow: Polars makes a Series of each inner list first, which took 20 times as long.
        values = _spread(cells, distinct, pl.Series(pa.array(lists, type=pa.large_list(pa.large_string())), dtype=kind))
        return Verdict(values, _cell_findings(field.name, cells, faulty, required=required))

    cell = pl.col(field.name)
    accepted = pl.lit(value=False) if required else cell.is_null()
    return Column(field.name, kind, pl.lit(None, dtype=kind), accepted, settle)


def child_column(child: Child, columns: Sequence[Column]) -> Column:
    """Children inside a record; `columns` check the children's fields."""
    kind = child_type(child)
    decode = _child_decoder(child)

    def settle(cells: pl.Series) -> Verdict:
        distinct = _distinct(cells)
        faulty: dict[str, str] = {}
        checked = [_check_children(child, columns, families) for families in _families(distinct, decode, faulty)]
        lists = pl.concat([pl.Series(child.field, [], dtype=kind), *(values for values, _ in checked)])
        values = _spread(cells, distinct, lists)
        findings = [_cell_findings(child.field, cells, faulty, required=False)]
        findings += [_at_cells(cells, distinct, problems) for problems in _renumbered(checked) if problems.height]
        return Verdict(values, pl.concat(findings).sort("at", maintain_order=True))

    return Column(child.field, kind, pl.lit(None, dtype=kind), pl.col(child.field).is_null(), settle)


@dataclass(frozen=True, slots=True)
class _Family:
    """The children in one cell: their fields as text, in the order of `Child.fields`, and the cells of a wrong JSON type."""

    children: list[tuple[str | None, ...]]
    wrong: list[tuple[int, int, str]]  # which child, which field, the JSON that stands there


def _families(distinct: pl.Series, decode: Callable[[str], _Family | str], faulty: dict[str, str]) -> Iterator[list[_Family | None]]:
    """The cells' families, as many at a time as hold some MAX_CHILDREN children: a chunk may hold ten times as many, all of them wrong.

    What a cell that holds none must be instead is put into `faulty`.
    """
    held: list[_Family | None] = []
    size = 0
    for cell in distinct:
        family = decode(cell)
        if isinstance(family, str):
            faulty[cell] = family
            held.append(None)
            continue
        if held and size + len(family.children) > MAX_CHILDREN:
            yield held
            held, size = [], 0
        held.append(family)
        size += len(family.children)
    yield held


def _renumbered(checked: Sequence[tuple[pl.Series, pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """The problems with families counted through all groups."""
    before = 0
    for values, problems in checked:
        yield problems.with_columns((pl.col("family") + before).cast(pl.UInt32))
        before += len(values)


def _at_cells(cells: pl.Series, distinct: pl.Series, problems: pl.DataFrame) -> pl.DataFrame:
    families = pl.DataFrame({"cell": distinct}).with_row_index("family")
    places = cells.alias("cell").to_frame().with_row_index("at").join(families, on="cell")
    return places.join(problems, on="family", maintain_order="left_right").select(FINDINGS.names())


def _distinct(cells: pl.Series) -> pl.Series:
    return cells.filter(cells != "").unique()


def _spread(cells: pl.Series, distinct: pl.Series, values: pl.Series) -> pl.Series:
    """The value of each cell, given those of the distinct ones."""
    table = pl.DataFrame([distinct.alias("cell"), values.alias("value")])
    return cells.alias("cell").to_frame().join(table, on="cell", how="left", maintain_order="left")["value"].alias(cells.name)


def _cell_findings(name: str, cells: pl.Series, faulty: dict[str, str], *, required: bool) -> pl.DataFrame:
    """Findings at whole cells: `faulty` says what each must be instead."""
    frame = cells.alias("value").to_frame().with_row_index("at")
    empty = pl.col("value").is_null() | (pl.col("value") == "")
    table = pl.DataFrame({"value": list(faulty), "detail": list(faulty.values())}, schema={"value": pl.String, "detail": pl.String})
    sets = [frame.join(table, on="value").with_columns(kind=pl.lit(Kind.INVALID.value))]
    if required:
        sets.append(frame.filter(empty).with_columns(detail=pl.lit(None, dtype=pl.String), kind=pl.lit(Kind.REQUIRED.value)))
    return pl.concat(sets).with_columns(field=pl.lit(name)).select(FINDINGS.names()).sort("at")


def _decode_list(cell: str) -> tuple[list[str] | None, str | None]:
    try:
        items = _texts.decode(cell)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None, _LIST_HINT
    if not cell.isascii() or "\\u" in cell or "\\U" in cell:
        joined = pl.Series(items, dtype=pl.String).str.contains(FORBIDDEN).any()
        return (None, f"a JSON array of texts, each {FORBIDDEN_HINT}") if joined else (items, None)
    return items, None


def _child_decoder(child: Child) -> Callable[[str], _Family | str]:
    """A decoder of cells: a family, or what the cell must be instead.

    Numbers are kept as they are written, so that none is altered before it is checked.
    """
    return partial(_bounded, _quick_decoder(child))


def _bounded(decode: Callable[[str], _Family | str], cell: str) -> _Family | str:
    """Counted before their fields are looked at, which takes a hundred bytes for a child of two."""
    if cell.count("{") > MAX_CHILDREN:
        try:
            if len(_sizes.decode(cell)) > MAX_CHILDREN:
                return _TOO_MANY_HINT
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return _CHILDREN_HINT
    return decode(cell)


def _quick_decoder(child: Child) -> Callable[[str], _Family | str]:
    if any(f.type not in _TEXTS for f in child.fields):
        return partial(_decode_carefully, child)
    # Named by position: a field's name may be a word that Python keeps for itself.
    names = [f"f{n}" for n in range(len(child.fields))]
    rename = dict(zip(names, (f.name for f in child.fields), strict=True))
    shape = msgspec.defstruct("ChildRecord", [(name, str | None, _ABSENT) for name in names], rename=rename, gc=False)
    decoder = msgspec.json.Decoder(list[shape])  # type: ignore[valid-type]  # the type is made here

    def decode(cell: str) -> _Family | str:
        try:
            rows = [msgspec.structs.astuple(c) for c in decoder.decode(cell)]
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return _decode_carefully(child, cell)
        # A JSON key is followed by a colon, so as many colons as keys seen means that none stood twice and none was passed over.
        absent = [r.count(_ABSENT) for r in rows]
        if cell.count(":") != len(rows) * len(names) - sum(absent):
            return _decode_carefully(child, cell)
        return _Family([tuple(None if v == _ABSENT else v for v in r) if n else r for r, n in zip(rows, absent, strict=True)], [])

    return decode


def _decode_carefully(child: Child, cell: str) -> _Family | str:
    """Each child as an object of raw JSON; finds keys that stand twice and values of a wrong type."""
    try:
        objects = _objects.decode(cell)
        json.loads(cell, object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except _DuplicateKeyError as error:
        return f"{_CHILDREN_HINT} in which no key stands twice ({error})"
    except (ValueError, RecursionError):
        return _CHILDREN_HINT
    family = _Family([], [])
    for n, record in enumerate(objects):
        texts: list[str | None] = []
        for m, field in enumerate(child.fields):
            raw = bytes(record[field.name]).strip().decode() if field.name in record else "null"
            text, fits = _text_of(field.type, raw)
            texts.append(text)
            if not fits:
                family.wrong.append((n, m, raw))
        family.children.append(tuple(texts))
    return family


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKeyError(key.replace("\0", "\u2400"))  # a message is stored, and PostgreSQL holds no NUL
        seen.add(key)


def _text_of(kind: FieldType, raw: str) -> tuple[str | None, bool]:
    """A JSON value as the text that the checks read, and whether its JSON type fits the field's."""
    if raw == "null":
        return None, True
    is_number = raw[0] in "-0123456789"
    fits = {
        FieldType.STRINGS: raw[0] == "[",
        FieldType.BOOLEAN: raw in ("true", "false", "0", "1") or raw[0] == '"',
        FieldType.INTEGER: is_number or raw[0] == '"',
        FieldType.NUMBER: is_number or raw[0] == '"',
    }.get(kind, raw[0] == '"')
    if not fits:
        return None, False
    return (msgspec.json.decode(raw, type=str) if raw[0] == '"' else raw), True


def _check_children(child: Child, columns: Sequence[Column], families: Sequence[_Family | None]) -> tuple[pl.Series, pl.DataFrame]:
    """A list of children for each family (null where there is none), and problems with `family` in place of `at`."""
    sizes = [len(f.children) if f else None for f in families]
    flat = list(chain.from_iterable(f.children for f in families if f))
    texts: Iterable[Sequence[str | None]] = zip(*flat, strict=True) if flat else ([] for _ in child.fields)
    series = [pl.Series(f.name, list(cells), dtype=pl.String) for f, cells in zip(child.fields, texts, strict=True)]
    size = pl.DataFrame({"size": pl.Series(sizes, dtype=pl.Int64)}).with_row_index("family")
    owners = size.filter(pl.col("size") > 0).select("family", index=pl.int_ranges("size")).explode("index", empty_as_null=True)
    owners = owners.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    typed, problems = check_columns(pl.DataFrame([owners[ROW], *series]), columns)
    told = _path_problems(child, families, owners, problems)
    grouped = owners.select("family").with_columns(typed.select(pl.struct(f.name for f in child.fields).alias("children")))
    # Nobody reads the values of a list at fault, and a hundred thousand empty objects take megabytes as columns.
    grouped = grouped.join(told, on="family", how="anti", maintain_order="left").group_by("family").agg("children")
    lists = size.join(grouped, on="family", how="left", maintain_order="left")
    none = pl.lit([], dtype=child_type(child))
    values = lists.select(pl.when(pl.col("size") == 0).then(none).otherwise("children").alias(child.field)).to_series()
    return values, told


def _path_problems(child: Child, families: Sequence[_Family | None], owners: pl.DataFrame, found: list[pl.DataFrame]) -> pl.DataFrame:
    wrong = _mistyped(child, families)
    sets = [owners.join(f, on=ROW).rename({"field": "name"}).select(list(_PLACED)) for f in found]
    told = pl.concat([wrong, *(s.join(wrong, on=["family", "index", "name"], how="anti") for s in sets)])
    order = pl.col("name").replace_strict({f.name: n for n, f in enumerate(child.fields)}, default=0, return_dtype=pl.Int64)
    told = told.sort("family", "index", order, maintain_order=True)
    rank = pl.col("index").rank("dense").over("family")
    within = told.filter(rank <= MAX_FAULTY_CHILDREN).with_columns(field=pl.format("{}[{}].{}", pl.lit(child.field), "index", "name"))
    columns = ["family", *(name for name in FINDINGS.names() if name != "at")]
    return pl.concat([within.select(columns), _rest(child, told.filter(rank > MAX_FAULTY_CHILDREN)).select(columns)])


def _mistyped(child: Child, families: Sequence[_Family | None]) -> pl.DataFrame:
    cells = [(n, *cell) for n, family in enumerate(families) if family for cell in family.wrong]
    family, index, field, value = zip(*cells, strict=True) if cells else ((), (), (), ())
    names, hints = [f.name for f in child.fields], [_JSON_HINTS[f.type] for f in child.fields]
    columns = {
        "family": family,
        "index": index,
        "name": [names[m] for m in field],
        "value": value,
        "kind": [Kind.INVALID.value] * len(cells),
        "detail": [hints[m] for m in field],
    }
    return pl.DataFrame(columns, schema=_PLACED)


def _rest(child: Child, untold: pl.DataFrame) -> pl.DataFrame:
    """One problem for all the children at fault that are not told one by one."""
    counts = untold.group_by("family", maintain_order=True).agg(count=pl.col("index").n_unique())
    return counts.select(
        "family",
        field=pl.lit(child.field),
        value=pl.lit(None, dtype=pl.String),
        kind=pl.lit(Kind.INVALID.value),
        detail=pl.format("an array of sound objects: {} more of them are at fault", "count"),
    )
