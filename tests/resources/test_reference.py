"""`check` against a slow reference that looks at one cell after the other with Python's own means."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.resources.checks import CheckOptions, check
from penstock.resources.model import Field, FieldType, Resource, ResourceName, Rule

FIELDS = (
    Field("id", FieldType.UUID),
    Field("code", FieldType.STRING, required=True, pattern="^[a-z]{1,3}$", max_length=3),
    Field("mail", FieldType.STRING, email=True, max_length=12),
    Field("label", FieldType.STRING, required=True, min_length=2, max_length=5),
    Field("note", FieldType.STRING, max_length=6, max_words=2),
    Field("state", FieldType.STRING, enum=("on", "off"), default="off"),
    Field("count", FieldType.INTEGER, minimum=Decimal(-5), maximum=Decimal(10**7)),
    Field("price", FieldType.NUMBER, required=True, precision=6, scale=2, minimum=Decimal("-1.5")),
    Field("active", FieldType.BOOLEAN),
    Field("at", FieldType.DATETIME),
    Field("tags", FieldType.STRINGS),
)
RULE = Rule("off_has_no_count", "count", "state <> 'off' OR count IS NULL", "what is off has no count", ("state", "count"))
RESOURCE = Resource(ResourceName("things"), "things", FIELDS, natural_key="code", rules=(RULE,))

WORDS = st.sampled_from(
    [
        "",
        "a",
        "ab",
        "abc",
        "abcd",
        "a b c",
        "ab cd",
        "äöü",
        "ÄÖÜÄÖÜ",
        "a\0b",
        "\u202ea",
        "  ",
        "a b c d e f",
        "on",
        "off",
        "ON",
        "long text here",
    ]
)
NUMBERS = [
    "0",
    "-0",
    "1",
    "+1",
    "1.5",
    "-1.5",
    "-1.51",
    "9999.99",
    "10000",
    "1e2",
    "1E-2",
    "1e-3",
    "1.230",
    "1.234",
    "NaN",
    "1e400",
    "0e999999999999",
    "007",
    ".5",
    "5.",
]
WHOLE = ["2147483647", "2147483648", "-2147483649", "10000000", "-6", "5.0", "1_0", " 1", "0x1", "\uff11"]
MOMENTS = [
    "2024-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2024-01-01 10:00+02:00",
    "2024-01-01T23:59:60Z",
    "2024-01-01T24:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "now",
]
MOMENTS += [
    "2024-01-01T00:00:00.1234567Z",
    "2024-01-01T00:00:00.1234560Z",
    "2024-01-01T00:00:00",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2024-1-1T00:00:00Z",
]
LISTS = ["[]", '["a","b"]', '["a",1]', "[null]", "{}", '["\\u0000"]', "x", '["ä"]', '["a"', '"a"']
CELLS = st.none() | WORDS | st.sampled_from([*NUMBERS, *WHOLE, *MOMENTS, *LISTS, "true", "FALSE", "Yes", "no", "2"])
CELLS |= st.sampled_from(["a@b.co", "a.b@c-d.org", "a..b@c.de", "ü@é.de", "a@b", "a@-b.de", "much-too-long@example.com", "a@b.c\n"])
CELLS |= st.sampled_from(
    [
        "7d444840-9dc0-11d1-b245-5ffdce74fad2",
        "7D444840-9DC0-11D1-B245-5FFDCE74FAD2",
        "7d4448409dc011d1b2455ffdce74fad2",
        "7d444840-9dc0-11d1-b24-55ffdce74fad2",
    ]
)

USUAL = {
    "id": ["7d444840-9dc0-11d1-b245-5ffdce74fad2"],
    "code": ["a", "abc"],
    "mail": ["a@b.co", "ü@é.de"],
    "label": ["ab", "äöüÄÖ"],
    "note": ["", "a b", "ÄÖÜÄÖÜ"],
    "state": ["on", "off"],
    "count": ["1", "-5", "10000000"],
    "price": ["1", "9999.99", "1e2", "1.230"],
    "active": ["true", "No"],
    "at": ["2024-02-29T00:00:00Z", "2024-01-01 10:00+02:00"],
    "tags": ["[]", '["a","b"]'],
}
ANY_CELL = CELLS.map(lambda cell: cell)  # as one strategy, so that half of the cells are usual ones
RECORD = st.fixed_dictionaries({f.name: st.sampled_from([*USUAL[f.name], None]) | ANY_CELL for f in FIELDS})
MOST_USUAL = st.fixed_dictionaries({f.name: st.sampled_from(USUAL[f.name]) for f in FIELDS})

Answer = tuple[Any, list[str]]  # the value, and the kinds of its problems


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(MOST_USUAL | RECORD, min_size=1, max_size=8), final=st.booleans(), partial=st.booleans())
def test_columns_and_cells_are_judged_alike(rows: list[dict[str, str | None]], final: bool, partial: bool) -> None:
    """Whatever stands in the cells, the columns' verdict is the one that each record gets when it is read by itself."""
    options = CheckOptions(partial=partial, nulls_are_final=final)
    frame = pl.DataFrame([{"row": n, **r} for n, r in enumerate(rows, 1)], schema={"row": pl.Int64, **{f.name: pl.String for f in FIELDS}})
    checked = check(RESOURCE, frame, [], options)

    expected_problems, expected_good = [], {}
    for n, record in enumerate(rows, 1):
        values, problems = judge(record, options)
        expected_problems += [(n, kind, field) for kind, field in problems]
        if not problems:
            expected_good[n] = values
    assert list(checked.problems.select("row", "kind", "field").iter_rows()) == expected_problems
    good = {r["row"]: {f.name: r[f.name] for f in FIELDS} for r in checked.good.iter_rows(named=True)}
    assert good == expected_good


def judge(record: dict[str, str | None], options: CheckOptions) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    values, problems = {}, []
    for field in FIELDS:
        values[field.name], kinds = cell(field, record[field.name], partial=options.partial)
        problems += [(kind, field.name) for kind in kinds]
    if options.partial and not record["code"] and not record["id"]:
        problems.append(("required", "code"))
    state, count = values["state"], values["count"]
    judged = options.nulls_are_final or (state is not None and count is not None)
    if judged and (state or "off") == "off" and count is not None and not {"state", "count"} & {f for _, f in problems}:
        problems.append(("rule", "count"))
    return values, problems


def cell(field: Field, text: str | None, *, partial: bool) -> Answer:
    free = field.type is FieldType.STRING and field.name in ("label", "note") and not field.required
    if text == "" and not free:
        text = None
    if text is None:
        return None, ["required"] if field.required and not partial else []
    value, problems = READERS[field.type](field, text)
    return (None if problems else value), problems


def read_text(field: Field, text: str) -> Answer:
    problem = None
    if field.email and not (re.fullmatch(r"[\w-]+(\.[\w-]+)*@(\w+(-\w+)*\.)+\w\w+", text) and "\n" not in text):
        problem = "invalid_format"
    elif re.search("[\0\u202a-\u202e\u2066-\u2069]", text):
        problem = "invalid"
    elif field.pattern and not re.fullmatch(field.pattern.strip("^$"), text):
        problem = "invalid_format"
    elif field.enum and text not in field.enum:
        problem = "invalid_enum"
    elif field.min_length and len(text) < field.min_length:
        problem = "too_short"
    elif field.max_length and len(text) > field.max_length:
        problem = "too_long"
    problems = [problem] if problem else []
    if field.max_words and len(text.split()) > field.max_words and problem in (None, "too_short", "too_long"):
        problems.append("too_many_words")
    return text, problems


def read_uuid(_field: Field, text: str) -> Answer:
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None, ["invalid"]
    return found.bytes, [] if str(found) == text.lower() else ["invalid"]


def read_whole(field: Field, text: str) -> Answer:
    if not re.fullmatch("-?[0-9]+", text):
        return None, ["invalid"]
    assert field.minimum is not None
    assert field.maximum is not None
    return int(text), [] if field.minimum <= int(text) <= field.maximum else ["out_of_range"]


def read_number(field: Field, text: str) -> Answer:
    if not re.fullmatch(r"-?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return None, ["invalid"]
    number = Decimal(text)
    assert field.minimum is not None
    if number == 0:
        return Decimal(0), []
    if abs(number) >= 10**4:
        return None, ["out_of_range"]
    if number != round(number, field.scale):
        return None, ["invalid"]
    return number, [] if number >= field.minimum else ["out_of_range"]


def read_boolean(_field: Field, text: str) -> Answer:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return known.get(text.lower()), [] if text.lower() in known else ["invalid"]


def read_moment(_field: Field, text: str) -> Answer:
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", text, re.ASCII)
    if not found:
        return None, ["invalid"]
    fraction = (found[3] or "").ljust(9, "0")
    shift = timedelta(hours=int(found[5] or 0), minutes=int(found[6] or 0)) * (-1 if found[4] == "-" else 1)
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC, microsecond=int(fraction[:6])) - shift
    except (ValueError, OverflowError):
        return None, ["invalid"]
    return moment, ["invalid"] if fraction[6:] != "000" else []


def read_list(_field: Field, text: str) -> Answer:
    try:
        found = json.loads(text)
    except ValueError:
        return None, ["invalid"]
    sound = isinstance(found, list) and all(isinstance(item, str) and "\0" not in item for item in found)
    return (found, []) if sound else (None, ["invalid"])


READERS = {
    FieldType.STRING: read_text,
    FieldType.UUID: read_uuid,
    FieldType.INTEGER: read_whole,
    FieldType.NUMBER: read_number,
    FieldType.BOOLEAN: read_boolean,
    FieldType.DATETIME: read_moment,
    FieldType.STRINGS: read_list,
}
