"""NDJSON and JSON arrays against Python's own `json`, in chunks of any size, from any place, with broken records among good ones."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from penstock.formats.model import Dialect, Format, Position, ReadOptions
from tests.formats.support import NOTES, Outcome, drain, reader_of, written

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
TEXTS = st.text(st.sampled_from('ab"\\/[]{},:é\n\t \u2028'), max_size=8)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "email": TEXTS | st.none(),
        "name": TEXTS,
        "count": st.integers(-(10**20), 10**20) | TEXTS | st.none(),
        "price": st.decimals(-1000, 1000, places=3).map(float),
        "active": st.booleans(),
        "tags": st.lists(TEXTS, max_size=2) | st.none(),
        "parts": st.lists(st.fixed_dictionaries({"name": TEXTS}), max_size=2),
        "other": st.dictionaries(TEXTS, TEXTS, max_size=2),
    },
)
BROKEN = st.sampled_from(
    ['{"email": }', '{"email":"x",}', "[1]", "3", '"x"', "nul", '{"email":"x","email":"y"}', '{"name":"x" "y"}', "null", "[[]]"]
)
ITEMS = st.lists(RECORDS | BROKEN, max_size=12)
FIELDS = {name: name for name in NOTES.accepted}
KINDS = {"[1]": "not_an_object", "3": "not_an_object", '"x"': "not_an_object", "null": "not_an_object", "[[]]": "not_an_object"}


def text_of(item: dict[str, Any] | str, **how: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item, **how)


def expected_row(record: dict[str, Any]) -> dict[str, str]:
    row = {}
    for key, value in record.items():
        if key == "other" or value is None:
            continue
        row[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return row


def check(outcome: Outcome, items: list[dict[str, Any] | str]) -> None:
    good = {number: item for number, item in enumerate(items, 1) if isinstance(item, dict)}
    assert outcome.kinds == {n: KINDS.get(item, "malformed_json") for n, item in enumerate(items, 1) if isinstance(item, str)}
    assert [row.pop("row") for row in outcome.rows] == list(good)
    for row, record in zip(outcome.rows, good.values(), strict=True):
        del row["row"]
        for name in ("tags", "parts"):  # as they stand in the file; compared by what they mean
            if name in row:
                row[name] = json.dumps(json.loads(row[name]), ensure_ascii=False)
        assert row == expected_row(record)
    assert not outcome.wrong
    assert outcome.ignored == ({"other"} if any("other" in item for item in good.values()) else set())


def check_rest(whole: Outcome, rest: Outcome, start: Position) -> None:
    assert rest.raw == {row: raw for row, raw in whole.raw.items() if row >= start.row}
    assert rest.lines == {row: line for row, line in whole.lines.items() if row >= start.row}
    assert rest.verdicts == [verdict for verdict in whole.verdicts if verdict[0] >= start.row]
    assert str(rest.error) == str(whole.error)


@given(items=ITEMS, chunk_bytes=st.integers(1, 80), other=st.integers(1, 80), data=st.data())
@SETTINGS
def test_ndjson(tmp_path: Path, items: list[dict[str, Any] | str], chunk_bytes: int, other: int, data: st.DataObject) -> None:
    """Every line is a record or a rejected one, blank lines only count as lines, and any chunk's end is a place to go on from."""
    ends = [data.draw(st.sampled_from(["\n", "\r\n", "\n \n", "\n\n"])) for _ in items]
    ascii_only = data.draw(st.booleans())
    text = "".join(text_of(item, ensure_ascii=ascii_only) + end for item, end in zip(items, ends, strict=True))
    dialect = Dialect(format=Format.NDJSON, fields=FIELDS)
    with written(tmp_path, "a.ndjson", text.encode()) as path:
        outcome = drain(reader_of(path, ReadOptions(chunk_bytes=chunk_bytes), dialect=dialect), Position())
        if items:
            check(outcome, items)
        counted = [1 + sum(end.count("\n") for end in ends[:place]) for place in range(len(items))]
        assert list(outcome.lines.values()) == counted
        assert outcome.error is None
        for end in outcome.ends:
            check_rest(outcome, drain(reader_of(path, ReadOptions(chunk_bytes=other), dialect=dialect), end), end)


@given(items=ITEMS, chunk_bytes=st.integers(1, 80), other=st.integers(1, 80), data=st.data())
@SETTINGS
def test_array(tmp_path: Path, items: list[dict[str, Any] | str], chunk_bytes: int, other: int, data: st.DataObject) -> None:
    """Every element is a record or a rejected one, however it is spread over lines, and any chunk's end is a place to go on from."""
    indent = data.draw(st.sampled_from([None, 0, 2]))
    before, behind = data.draw(st.sampled_from([("", ","), ("\n", ","), ("\n  ", " ,"), (" ", ", "), ("\n, ", "")]))
    texts = [text_of(item, indent=indent, ensure_ascii=False) for item in items]
    body, lines = "[", []
    for place, text in enumerate(texts):
        body += before if place or "," not in before else ""
        lines.append(1 + body.count("\n"))
        body += text + (behind if place < len(texts) - 1 else "")
    body += "\n]\n"
    dialect = Dialect(format=Format.JSON, fields=FIELDS, header_bytes=1)
    with written(tmp_path, "a.json", body.encode()) as path:
        outcome = drain(reader_of(path, ReadOptions(chunk_bytes=chunk_bytes), dialect=dialect), Position())
        assert outcome.error is None
        if items:
            check(outcome, items)
        assert [raw.decode() for raw in outcome.raw.values()] == texts
        assert list(outcome.lines.values()) == lines
        for end in outcome.ends:
            check_rest(outcome, drain(reader_of(path, ReadOptions(chunk_bytes=other), dialect=dialect), end), end)


@given(
    body=st.lists(st.sampled_from(["[", "]", "{", "}", ",", '"', "\\", "\n", "1", '{"email":"x"}', " ", ":"]), max_size=30).map("".join),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    limit=st.integers(4, 20),
)
@settings(SETTINGS, max_examples=600)
@example(body='{"email":"x"}\n{"email":"x"}\n{', sizes=(1, 20), limit=20)  # what follows tells that these are two
def test_any_array_ends_and_goes_on(tmp_path: Path, body: str, sizes: tuple[int, int], limit: int) -> None:
    """Whatever stands in an array, reading ends, does not depend on the size of chunks, and goes on from any of them to the same end."""
    dialect = Dialect(format=Format.JSON, fields=FIELDS, header_bytes=1)
    with written(tmp_path, "a.json", b"[" + body.encode()) as path:
        outcomes = [drain(reader_of(path, ReadOptions(chunk_bytes=size), dialect=dialect), Position()) for size in sizes]
        assert outcomes[0].raw == outcomes[1].raw
        assert outcomes[0].lines == outcomes[1].lines
        assert outcomes[0].verdicts == outcomes[1].verdicts
        for end in outcomes[0].ends:
            check_rest(outcomes[0], drain(reader_of(path, ReadOptions(chunk_bytes=sizes[1]), dialect=dialect), end), end)
        limited = drain(reader_of(path, ReadOptions(chunk_bytes=sizes[0], max_record_bytes=limit), dialect=dialect), Position())
        assert limited.error or limited.raw.keys() or not outcomes[0].raw
