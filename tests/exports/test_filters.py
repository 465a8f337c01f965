"""Filters against a real database: each gives what Python gives that looks at the rows one by one."""

import operator
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidFilterError
from penstock.exports.filters import OPERATORS
from penstock.exports.statements import count, select
from penstock.exports.wishes import wishes_of_body, wishes_of_query
from penstock.resources.keys import canonical
from penstock.resources.model import Field, FieldType
from penstock.resources.registry import Registry
from tests.exports.kinds import EXACTS, FLAGS, IDS, LABELS, MARKS, MOMENTS, OWNED, TEXTS, WHOLES, Row, as_json, filled, later
from tests.support.postgres import TestServer

World = tuple[psycopg.Connection[Any], Registry, list[Row]]
ORDERINGS: dict[str, Callable[[Any, Any], object]] = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
FIELDS = {
    "code": FieldType.STRING,
    "label": FieldType.STRING,
    "order": FieldType.STRING,
    "other": FieldType.UUID,
    "whole": FieldType.INTEGER,
    "exact": FieldType.NUMBER,
    "flag": FieldType.BOOLEAN,
    "moment": FieldType.DATETIME,
    "marks": FieldType.STRINGS,
}


@pytest.fixture(scope="module")
def world(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with postgres.fresh_database() as conninfo, filled(conninfo, tmp_path_factory.mktemp("kinds")) as made:
        yield made


def selected(world: World, *pairs: tuple[str, str]) -> list[str]:
    """Codes of the records that the filters leave, in the order of the export; their count agrees."""
    connection, registry, _ = world
    wishes = wishes_of_query(registry, [("fields", "code"), *pairs], resource="kinds")
    codes = [code for (code,) in connection.execute(select(registry, wishes).encode())]
    assert connection.execute(count(registry, wishes).encode()).fetchall() == [(len(codes),)]
    return codes


def comparable(value: Any) -> Any:
    """As PostgreSQL orders it: NaN above every number."""
    return Decimal("Infinity") if isinstance(value, Decimal) and value.is_nan() else value


def holds(field: Field, word: str, stored: Any, values: list[Any]) -> bool:
    """What a filter means, for one record."""
    if word == "is_null":
        return (stored is None) is bool(values[0])
    if field.name == "label" and word in ("eq", "ne", "in"):
        stored, values = canonical(stored, field, folds=True), [canonical(value, field, folds=True) for value in values]
    if word == "ne":
        return bool(stored != values[0])
    if stored is None:
        return False
    if word in ("eq", "in"):
        return bool(stored in values)
    if word == "like":
        pieces = re.findall(r"\\.|.", values[0], re.DOTALL)
        pattern = "".join({"%": ".*", "_": "."}.get(piece, re.escape(piece[-1])) for piece in pieces)
        return re.fullmatch(pattern, stored, re.DOTALL) is not None
    return bool(ORDERINGS[word](comparable(stored), comparable(values[0])))


def spelled(value: Any, draw: st.DrawFn) -> str:
    """One of the ways in which a value may be written."""
    if isinstance(value, bool):
        return draw(st.sampled_from(["true", "True", "YES", "1"] if value else ["false", "FALSE", "no", "0"]))
    if isinstance(value, uuid.UUID):
        return draw(st.sampled_from([str(value), str(value).upper()]))
    if isinstance(value, datetime):
        return draw(st.sampled_from([value.isoformat(), value.isoformat(sep=" ").replace("+00:00", "Z"), later(value)]))
    if isinstance(value, Decimal):
        return draw(st.sampled_from([f"{value:f}", f"{value:E}", f"{value:f}0" if "." in f"{value:f}" else f"{value:f}.0"]))
    return as_json(value) if isinstance(value, list) else str(value)


def quoted(values: list[str]) -> str:
    return ",".join('"' + value.replace('"', '""') + '"' for value in values)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
TOO_LARGE = [2**31, -(2**31) - 1, 10**50]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "code": st.sampled_from(["a0", "A1", "é2", "b"]) | TEXT,
    "label": st.sampled_from([*LABELS, *(label.upper() for label in LABELS), "STRASSE1"]) | TEXT,
    "order": st.sampled_from([text for text in TEXTS if text is not None]) | TEXT,
    "other": st.sampled_from(IDS) | st.uuids(),
    "whole": st.sampled_from([whole for whole in WHOLES if whole is not None] + TOO_LARGE),
    "exact": st.sampled_from([e for e in EXACTS if e is not None and not e.is_nan()]) | st.decimals(-100, 100, places=4),
    "flag": st.sampled_from([flag for flag in FLAGS if flag is not None]),
    "moment": st.sampled_from([moment for moment in MOMENTS if moment is not None]),
    "marks": st.sampled_from([marks for marks in MARKS if marks is not None]),
}
PATTERN = st.lists(st.sampled_from(["%", "_", "a", "b", "'", "\\\\", "\\%", "\\_", "é", "\n", '"']), max_size=5).map("".join)


@st.composite
def one(draw: st.DrawFn) -> tuple[str, str, list[Any], str]:
    """A field, an operator that it knows, the values, and how the filter is written."""
    name = draw(st.sampled_from(sorted(FIELDS)))
    word = draw(st.sampled_from(OPERATORS[FIELDS[name]])).value
    if word == "is_null":
        null = draw(st.booleans())
        return name, word, [null], spelled(null, draw)
    if word == "like":
        pattern = draw(PATTERN)
        return name, word, [pattern], pattern
    values = draw(st.lists(VALUES[name], min_size=1, max_size=4 if word == "in" else 1))
    texts = [spelled(value, draw) for value in values]
    return name, word, values, quoted(texts) if word == "in" else texts[0]


@settings(deadline=None, max_examples=600)
@given(asked=st.lists(one(), min_size=1, max_size=3, unique_by=lambda each: each[:2]))
def test_every_filter_gives_what_python_gives(world: World, asked: list[tuple[str, str, list[Any], str]]) -> None:
    """Every operator of every type, alone and several together; the records come in the order of their keys' bytes."""
    fields = world[1].get("kinds").by_name
    expected = [row["code"] for row in world[2] if all(holds(fields[n], word, row[n], values) for n, word, values, _ in asked)]
    pairs = [(f"{name}[{word}]", text) for name, word, _, text in asked]
    assert selected(world, *pairs) == sorted(expected, key=str.encode)


@pytest.mark.parametrize("field", FIELDS)
def test_every_stored_value_is_found(world: World, field: str) -> None:
    """Each value of each field by `eq`, and by nothing else than itself."""
    declared = world[1].get("kinds").by_name[field]
    for stored in {str(row[field]): row[field] for row in world[2]}.values():
        if stored is None or comparable(stored) == Decimal("Infinity"):
            continue
        text = as_json(stored) if isinstance(stored, list) else str(stored)
        expected = {row["code"] for row in world[2] if holds(declared, "eq", row[field], [stored])}
        assert set(selected(world, (field, text))) == expected
        assert expected


def owner_codes(world: World, *ids: uuid.UUID) -> list[str]:
    return sorted((row["code"] for row in world[2] if row["owner_id"] in ids), key=str.encode)


@pytest.mark.parametrize(
    ("value", "owner"),
    [
        ("ANN@example.COM", 0),
        ("Ann", 0),
        (str(OWNED[0]["id"]).upper(), 0),
        ("10", 0),
        ("b'o@example.com", 1),
        ("ab", 1),
        ("JÖRG@xn--bcher-kva.example", 2),
        ("ann", None),
        ("'", None),
        ("99999999999", None),
    ],
)
def test_a_named_filter_looks_through_the_reference(world: World, value: str, owner: int | None) -> None:
    """By any of its fields, each read and compared in its own way: e-mail without case, id, name, number."""
    assert selected(world, ("owner", value)) == ([] if owner is None else owner_codes(world, OWNED[owner]["id"]))


def test_a_named_filter_takes_several_values(world: World) -> None:
    """Each looked for where it can be."""
    found = selected(world, ("owner[in]", f"Ann,{OWNED[1]['id']},nobody"))
    assert found == owner_codes(world, OWNED[0]["id"], OWNED[1]["id"])


@pytest.mark.parametrize("mark", ["a", "b", "a,b", "", "\\", "'", '"', "日本'語", "c"])
def test_a_named_filter_on_a_list_looks_at_its_items(world: World, mark: str) -> None:
    expected = sorted((row["code"] for row in world[2] if mark in (row["marks"] or [])), key=str.encode)
    assert selected(world, ("mark", mark)) == selected(world, ("mark[in]", quoted([mark, "nowhere"]))) == expected


def test_a_named_filter_over_fields_of_many_types(world: World) -> None:
    """Own fields and those of what is referred to, side by side; `1` is a text, a number and a truth."""
    by_name = {owner["id"]: owner["name"] for owner in OWNED}
    expected = [r["code"] for r in world[2] if r["order"] == "1" or r["whole"] == 1 or r["flag"] or by_name.get(r["owner_id"]) == "1"]
    assert selected(world, ("anything", "1")) == sorted(expected, key=str.encode)
    expected = [r["code"] for r in world[2] if r["order"] == "ab" or by_name.get(r["owner_id"]) == "ab"]
    assert selected(world, ("anything", "ab")) == sorted(expected, key=str.encode)


def test_json_says_the_same(world: World) -> None:
    """A body's native values and objects of operators mean what a query's texts mean."""
    connection, registry, _ = world
    filters = {
        "whole": {"gte": -1, "lt": 2147483648, "in": [0, 1, 10]},
        "exact": {"ne": 49.90},
        "flag": True,
        "marks": {"is_null": False},
        "order[ne]": "a",
    }
    wishes = wishes_of_body(registry, {"resource": "kinds", "fields": ["code"], "filters": filters})
    pairs = [("whole[gte]", "-1"), ("whole[lt]", "2147483648"), ("whole[in]", "0,1,10"), ("exact[ne]", "49.9"), ("flag", "true")]
    pairs += [("marks[is_null]", "false"), ("order[ne]", "a")]
    found = [code for (code,) in connection.execute(select(registry, wishes).encode())]
    assert found == selected(world, *pairs) != []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            ("colour", "red"),
            r"no filter 'colour'; kinds can be filtered by the fields code, .* and by mark, owner, anything; other .* format",
        ),
        (("labl", "x"), r"Did you mean label\?"),
        (("ownr", "x"), r"Did you mean owner\?"),
        (("fromat", "csv"), r"Did you mean format\?"),
        (("owner_email", "x"), r"no filter 'owner_email'.*Did you mean"),
        (("label[", "x"), r"no filter 'label\['"),
        (("label[eq][in]", "x"), "no filter"),
        (("", "x"), "no filter ''"),
        (("x" * 500, "x"), "no filter 'x{100}[.]{3}'"),
        (("parts", "x"), "parts is a list of records"),
        (("label[lik]", "x"), r"label\[lik\] has an operator that a string does not know; .* eq, ne, in, .*like\. Did you mean like"),
        (("label[EQ]", "x"), "operators of label are"),
        (("whole[like]", "1"), "an integer|a integer"),
        (("flag[in]", "true"), "operators of flag are eq, ne, is_null"),
        (("marks[gt]", "[]"), "operators of marks are eq, ne, is_null"),
        (("owner[ne]", "x"), "operators of owner are eq, in"),
        (("whole", "1.5"), "must be a whole number"),
        (("whole", "+1"), "must be a whole number"),
        (("whole", "1_0"), "must be a whole number"),
        (("whole", "\N{ARABIC-INDIC DIGIT ONE}"), "must be a whole number"),
        (("whole", "9" * 101), "at most 100 digits"),
        (("exact", "NaN"), "must be a decimal number"),
        (("exact", "1e999999999"), "must be a decimal number"),
        (("exact", "1e-101"), "must be a decimal number"),
        (("flag", "maybe"), "must be true or false"),
        (("flag", ""), "must be true or false"),
        (("other", "abc"), "must be a UUID"),
        (("moment", "2024-01-31"), "must be an ISO 8601 date and time"),
        (("moment", "2024-01-31T09:30:00"), "with a zone"),
        (("moment", "2024-01-31T09:30:00.1234567Z"), "at most microseconds"),
        (("moment", "infinity"), "must be an ISO 8601"),
        (("moment", "\ud800"), "must be an ISO 8601"),
        (("marks", "a"), "must be a JSON array of texts"),
        (("marks", "[null]"), "must be a JSON array of texts"),
        (("marks", '["\\u0000"]'), "without NUL"),
        (("order", "a\0"), "without NUL"),
        (("order", "\udc80"), "Unicode text"),
        (("order[like]", "a\0"), "without NUL"),
        (("order[like]", "a\\"), "ends with a backslash"),
        (("order[in]", 'a,"b'), "never ends"),
        (("order[in]", '"a"b'), "not followed by a comma"),
        (("order[is_null]", "null"), "must be true or false"),
        (("mark", "\0"), "without NUL"),
        (("whole[in]", ",".join(map(str, range(1001)))), "takes 1 to 1000 values, not 1001"),
    ],
)
def test_what_means_nothing_is_refused(world: World, asked: tuple[str, str], message: str) -> None:
    """With the filter, and what is allowed; never by the database."""
    with pytest.raises(InvalidFilterError, match=message) as refused:
        wishes_of_query(world[1], [asked], resource="kinds")
    assert refused.value.details["filter"].startswith(asked[0][:100])
    assert len(refused.value.message) < 700


def test_a_value_that_no_field_of_a_named_filter_can_hold(tmp_path: Any) -> None:
    """What they can is said."""
    (tmp_path / "x.yaml").write_text(
        "name: x\nschema: {primaryKey: id, fields: [{name: id, type: string, format: uuid}, {name: n, type: integer}],"
        " filters: [{name: f, fields: [id, n]}]}"
    )
    registry = Registry.of(tmp_path)
    with pytest.raises(InvalidFilterError, match=r"f\[in\] must be a UUID, such as .*, or a whole number .*, not 'a'"):
        wishes_of_query(registry, [("f[in]", "1,a")], resource="x")
    assert wishes_of_query(registry, [("f", "1")], resource="x").conditions[0].values == ("1",)


def test_an_enum_takes_its_members_only() -> None:
    """But an order may be asked for by any text."""
    registry = Registry.load()
    for word in ("eq", "ne", "in"):
        with pytest.raises(InvalidFilterError, match="must be one of admin, author, editor, moderator, reader, user, not 'boss'"):
            wishes_of_query(registry, [(f"role[{word}]", "boss")], resource="users")
    assert wishes_of_query(registry, [("role[gt]", "boss"), ("role[like]", "a%")], resource="users").conditions[0].values == ("boss",)


def test_a_filter_stands_once(world: World) -> None:
    """The same operator on the same field twice is no `or`."""
    with pytest.raises(InvalidFilterError, match=r"more than once; for several values there is whole\[in\]=a,b"):
        wishes_of_query(world[1], [("whole", "1"), ("whole[eq]", "2")], resource="kinds")


def test_filters_are_counted(world: World) -> None:
    """Fifty at most."""
    fields = world[1].get("kinds").fields
    spelled = {FieldType.STRINGS: "[]", FieldType.UUID: str(IDS[0]), FieldType.DATETIME: "2024-01-31T09:30:00Z"}
    pairs = [
        (f"{field.name}[{word.value}]", "1" if word.value == "is_null" else spelled.get(field.type, "1"))
        for field in fields
        for word in OPERATORS[field.type]
    ]
    assert len(wishes_of_query(world[1], pairs[:50], resource="kinds").conditions) == 50
    selected(world, *pairs[:50])
    with pytest.raises(InvalidFilterError, match="at most 50"):
        wishes_of_query(world[1], pairs[:51], resource="kinds")
