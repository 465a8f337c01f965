"""Lists and children in cells of JSON."""

import json

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.resources.checks import nested
from penstock.resources.model import Child, Field, FieldType, Resource, ResourceName
from penstock.resources.problems import render
from tests.resources.support import ARTICLE, USER, builtin, codes, run, value

STREET = {"street": "s", "city": "c", "state": "t", "zip_code": "007", "country": "x: y"}


def addresses(*cells: object) -> list[dict[str, str | None]]:
    return [{**USER, "addresses": cell if isinstance(cell, str) else json.dumps(cell)} for cell in cells]


def test_children_come_typed_and_in_order() -> None:
    """Each record has its own children; none given is null, an empty list stays empty, unknown keys are ignored."""
    good = run(builtin("users"), USER, *addresses([], [STREET, {**STREET, "city": "d", "moon": [1]}], [STREET])).good
    assert good["addresses"].to_list() == [None, [], [STREET, {**STREET, "city": "d"}], [STREET]]


def test_a_childs_problem_has_its_path() -> None:
    """The path names the child by its number from 0, the code the field."""
    users = builtin("users")
    bad = addresses([STREET, {**STREET, "street": None, "zip_code": "1" * 21}], [{**STREET, "city": ""}])
    assert codes(users, *bad) == [
        (1, "addresses[1].street", "street_required"),
        (1, "addresses[1].zip_code", "zip_code_too_long"),
        (2, "addresses[0].city", "city_required"),
    ]


def test_equal_cells_are_judged_in_each_record() -> None:
    """A cell that stands in many records is a problem of each."""
    assert [row for row, _, _ in codes(builtin("users"), *addresses(*[[{**STREET, "city": None}]] * 3))] == [1, 2, 3]


NO_CHILDREN = [
    "{}",
    "[1]",
    "[null]",
    "x",
    "[",
    '["a"]',
    "[" * 100_000,
    '[{"street":1',
    "null",
    "1",
    '[{"street": NaN}]',
    '[{"street":"a",}]',
    '[{"a":"\\ud800"}]',
]


@pytest.mark.parametrize("cell", NO_CHILDREN)
def test_what_are_no_children(cell: str) -> None:
    """Anything but an array of objects is refused, deep nesting too, without harm."""
    assert value(builtin("users"), "addresses", cell) == "addresses must be a JSON array of objects"


def test_keys_that_stand_twice() -> None:
    """A key that stands twice in an object makes its value a guess."""
    text = json.dumps([STREET])[:-2] + ', "city": "d"}]'
    assert value(builtin("users"), "addresses", text) == "addresses must be a JSON array of objects in which no key stands twice (city)"
    short = '[{"street":"a","street":"b","city":"c","state":"d","zip_code":"e"}]'
    assert "stands twice (street)" in value(builtin("users"), "addresses", short)


def test_a_message_holds_no_nul() -> None:
    """It is stored, and PostgreSQL's texts hold none."""
    cell = '[{"a\\u0000":1,"a\\u0000":2}]'
    assert value(builtin("users"), "addresses", cell) == "addresses must be a JSON array of objects in which no key stands twice (a\u2400)"


def test_the_problems_of_a_list_are_bounded() -> None:
    """Those of the first children at fault are told, the others counted in one problem more, for each record by itself."""
    users, most = builtin("users"), nested.MAX_FAULTY_CHILDREN
    just, beyond = [STREET, *[{}] * most], [{}, *[STREET] * 5, *[{**STREET, "city": 1, "state": ""}] * (most + 6)]
    problems = run(users, *addresses(just, beyond, [STREET])).problems
    told = [(p["row"], render(p, users)["message"]) for p in problems.iter_rows(named=True)]
    assert [row for row, _ in told] == [1] * (most * len(STREET)) + [2] * (len(STREET) + 2 * (most - 1) + 1)
    assert told[-2:] == [
        (2, f"addresses[{most + 4}].state is required"),
        (2, "addresses must be an array of sound objects: 7 more of them are at fault"),
    ]


def test_children_are_judged_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many children a chunk holds, few are looked at together, and each keeps its record."""
    cells = [[{**STREET, "city": None}] * n + [STREET] * (n % 3) for n in range(8)] + [["x"], []]
    whole = run(builtin("users"), *addresses(*cells))
    monkeypatch.setattr(nested, "MAX_CHILDREN", 9)
    parts = run(builtin("users"), *addresses(*cells))
    assert parts.problems.equals(whole.problems)
    assert parts.good.equals(whole.good)
    assert parts.good["row"].to_list() == [1, 10]


@pytest.mark.parametrize("resource", ["users", "p"])
def test_too_many_children(resource: str) -> None:
    """The most that a record may have are taken; one more, and none is looked at."""
    of = builtin("users") if resource == "users" else PARENT
    users = {"email": "ann@example.com", "name": "Ann", "addresses": json.dumps([STREET])}
    record = users if resource == "users" else {"parts": '[{"class": "{"}]'}
    field, cell = list(record.items())[-1]
    most = f"[{','.join([cell[1:-1]] * nested.MAX_CHILDREN)}]"
    assert len(run(of, {**record, field: most}).good[field].to_list()[0]) == nested.MAX_CHILDREN
    problems = run(of, {**record, field: f"{most[:-1]},{{}}]"}).problems
    assert [(p["field"], p["kind"], p["detail"]) for p in problems.iter_rows(named=True)] == [
        (field, "invalid", "an array of at most 100000 objects")
    ]


def test_wrong_json_types_in_a_child() -> None:
    """A number is no text: nothing is converted; the value is shown as it stands."""
    users = builtin("users")
    problem = run(users, *addresses([{**STREET, "zip_code": 7}])).problems.row(0, named=True)
    shown = render(problem, users)
    assert (shown["code"], shown["field"], shown["value"]) == ("invalid_zip_code", "addresses[0].zip_code", "7")
    assert shown["message"] == "addresses[0].zip_code must be a text"


def test_children_may_not_hold_nul() -> None:
    """An escaped NUL in a child is found like any other."""
    assert codes(builtin("users"), *addresses([{**STREET, "city": "a\0"}])) == [(1, "addresses[0].city", "invalid_city")]


FIELDS = (
    Field("class", FieldType.STRING),
    Field("size", FieldType.INTEGER),
    Field("price", FieldType.NUMBER, precision=20, scale=2),
    Field("flag", FieldType.BOOLEAN),
    Field("tags", FieldType.STRINGS),
)
PARENT = Resource(ResourceName("p"), "p", (Field("id", FieldType.UUID),), children=(Child("parts", "parts", "p_id", FIELDS),))


def test_a_childs_numbers_are_exact() -> None:
    """Numbers in JSON come out as the digits that were written, or are refused; names that Python keeps for itself are fields too."""
    first, second = (
        '{"class": "a", "size": 2147483647, "price": 123456789012345678.90, "flag": true, "tags": ["x"]}',
        '{"size": "5", "price": "1e2", "flag": "no"}',
    )
    parts = run(PARENT, {"parts": f"[{first}, {second}]"}).good["parts"].to_list()[0]
    assert [str(p["price"]) for p in parts] == ["123456789012345678.90", "100.00"]
    assert [(p["class"], p["size"], p["flag"], p["tags"]) for p in parts] == [("a", 2147483647, True, ["x"]), (None, 5, False, None)]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ('{"size": 9007199254740993}', "size_out_of_range"),
        ('{"size": 1.0}', "invalid_size"),
        ('{"size": true}', "invalid_size"),
        ('{"price": 1e400}', "price_out_of_range"),
        ('{"flag": 2}', "invalid_flag"),
        ('{"tags": "x"}', "invalid_tags"),
        ('{"tags": [1]}', "invalid_tags"),
        ('{"class": []}', "invalid_class"),
    ],
)
def test_a_childs_values_are_judged_by_their_type(cell: str, code: str) -> None:
    """A child's values of other types are refused with the same codes as a record's."""
    assert [c for _, _, c in codes(PARENT, {"parts": f"[{cell}]"})] == [code]


@given(
    st.lists(
        st.none() | st.lists(st.dictionaries(st.sampled_from([*STREET, "other"]), st.none() | st.text("ab: \0", max_size=3)), max_size=3),
        max_size=4,
    )
)
def test_children_land_as_they_were_given(cells: list[list[dict[str, str | None]] | None]) -> None:
    """Whatever the keys and values, sound children come out as they went in, and no record with an unsound one is good."""
    records = [{**USER, "addresses": None if c is None else msgspec.json.encode(c).decode()} for c in cells]
    sound = {
        n: c and [{f: child[f] for f in STREET} for child in c]
        for n, c in enumerate(cells, 1)
        if all(child.get(f) and "\0" not in (child[f] or "") for child in c or [] for f in STREET)
    }
    good = run(builtin("users"), *records).good if records else pl.DataFrame({"row": [], "addresses": []})
    assert dict(good.select("row", "addresses").iter_rows()) == sound


@pytest.mark.parametrize(("cell", "texts"), [("[]", []), ('["a", "a", "é"]', ["a", "a", "é"]), ('[""]', [""]), ('["\\u00e9"]', ["é"])])
def test_lists(cell: str, texts: list[str]) -> None:
    """A list of texts is a JSON array of them, empty and repeated ones too."""
    assert value(builtin("articles"), "tags", cell) == texts


@pytest.mark.parametrize("cell", ["a,b", "[1]", "[null]", "{}", '["a"', '[["a"]]', "[" * 50_000, '"a"', "null", '["a",]'])
def test_what_is_no_list(cell: str) -> None:
    """Anything else is refused."""
    assert value(builtin("articles"), "tags", cell) == "tags must be a JSON array of texts"


def test_lists_may_not_hold_nul() -> None:
    """The message says what a text may not hold."""
    assert "without NUL" in value(builtin("articles"), "tags", '["a\\u0000"]')
    assert "without NUL" in value(builtin("articles"), "tags", '["a", "\u202e"]')


def test_many_lists() -> None:
    """Lists stay with their records when many records share some of them."""
    records = [{**ARTICLE, "slug": f"s-{n}", "tags": None if n % 3 == 0 else f'["t{n % 5}"]'} for n in range(50)]
    assert run(builtin("articles"), *records).good["tags"].to_list() == [None if n % 3 == 0 else [f"t{n % 5}"] for n in range(50)]
