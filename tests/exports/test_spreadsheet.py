"""CSV for spreadsheets: no text in it is a formula, and imported again it is what it was."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from penstock.formats.csv_guard import SPREADSHEET_COLUMN, guarded, unguarded
from penstock.formats.model import Dialect, Format, ReadOptions
from penstock.formats.render import record_of, rejected_writer
from penstock.intake.previews import preview
from penstock.jobs.model import ImportOptions
from penstock.sources import open_source
from tests.exports.encoded import HOSTILE, THINGS, content, read_back
from tests.formats.support import put, read, reader_of

ID = "00000d6c-6dbe-410c-a1a9-bb0846ccf387"
STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
MARKS = f"'{STARTS}ab\","
SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def changed(change: Callable[[pl.Expr], pl.Expr], texts: Sequence[str | None]) -> list[str | None]:
    return pl.DataFrame({"text": texts}, {"text": pl.String}).select(change(pl.col("text")))["text"].to_list()


@given(texts=st.lists(st.text(MARKS, max_size=5) | st.text(max_size=5), max_size=8))
@example(texts=[*HOSTILE])
def test_guarding_is_a_bijection(texts: list[str]) -> None:
    """What is guarded is no formula and comes back the same; no two texts become one."""
    safe = changed(guarded, texts)
    assert [text for text in safe if text and text[0] in STARTS] == []
    assert changed(unguarded, safe) == texts
    assert len(set(safe)) == len(set(texts))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\t=1", "'\t=1"),
        ("\uff1dA1", "'\uff1dA1"),
        ("'=1", "''=1"),
        ("''=1", "'''=1"),
        ("'tis", "'tis"),
        ("a=1", "a=1"),
        (" =1", " =1"),
        ("'", "'"),
        ("", ""),
        (None, None),
    ],
)
def test_what_is_guarded(text: str | None, safe: str | None) -> None:
    """What begins like a formula, and what would be taken for guarded; nothing else."""
    assert changed(guarded, [text]) == [safe]


RECORDS = [
    {"id": ID, "label": "=1+1", "whole": -5, "exact": "-49.90", "note": None, "marks": ["=x"], "parts": [{"name": "-p"}]},
    {"id": ID, "label": "'=1", "whole": 5, "exact": "49.90", "note": "", "flag": False},
]


def test_file() -> None:
    """A byte order mark, the marker's column, an apostrophe before formulas; numbers, ids, empty cells and JSON untouched."""
    data = content(Format.CSV, RECORDS, spreadsheet=True)
    assert data.startswith(b"\xef\xbb\xbfid,label,")
    assert data.decode("utf-8-sig").split("\n") == [
        "id,label,whole,exact,note,flag,moment,marks,parts,_spreadsheet",
        f"""{ID},'=1+1,-5,-49.90,,,,"[""=x""]","[{{""name"":""-p""}}]",1""",
        f"""{ID},''=1,5,49.90,"",false,,,[],1""",
        "",
    ]


@given(labels=st.lists(st.sampled_from(HOSTILE) | st.text(MARKS, max_size=6), min_size=1, max_size=6), chunk_bytes=st.integers(1, 80))
@SETTINGS
def test_there_and_back(tmp_path: Path, labels: list[str], chunk_bytes: int) -> None:
    """In chunks of any size, the texts are those that were exported, and nobody is told of the marker."""
    data = content(Format.CSV, [{"id": ID, "label": label, "note": label} for label in labels], spreadsheet=True)
    outcome = read_back(tmp_path, Format.CSV, data, ReadOptions(chunk_bytes=chunk_bytes))
    assert [(row["label"], row["note"]) for row in outcome.frame.to_dicts()] == [(label, label) for label in labels]
    assert outcome.dialect.ignored == ()


def guarded_file(*rows: str) -> str:
    return "\n".join(["email,name,_spreadsheet", *rows, ""])


def test_bad_records_do_not_matter(tmp_path: Path) -> None:
    """Where the strict scan must tell the records apart, cells are read the same."""
    outcome = read(put(tmp_path, "a.csv", guarded_file("'=a,'+b,", 'x"y,1,', "'-c,d,", "short")))
    assert outcome.rows == [{"row": 1, "email": "=a", "name": "+b"}, {"row": 3, "email": "-c", "name": "d"}]
    assert outcome.kinds == {2: "malformed_row", 4: "malformed_row"}


def test_null_values_are_told_by_the_cell(tmp_path: Path) -> None:
    """A text that would mean no value does not, guarded: it is a text."""
    outcome = read(put(tmp_path, "a.csv", guarded_file("'-,-,")), ReadOptions(null_values=("-",)))
    assert outcome.rows == [{"row": 1, "email": "-"}]


def test_only_text_is_read_so(tmp_path: Path) -> None:
    """An apostrophe before what is no text was not put there by an export, and is left for the rules to judge."""
    outcome = read(put(tmp_path, "a.csv", "email,count,tags,_spreadsheet\n'=a,'-1,'=x,\n"))
    assert outcome.rows == [{"row": 1, "email": "=a", "count": "'-1", "tags": "'=x"}]


def test_without_the_marker_nothing_is_taken_away(tmp_path: Path) -> None:
    """Text that begins with an apostrophe by itself stays so."""
    outcome = read(put(tmp_path, "a.csv", "email,name\n'=a,'+b\n"))
    assert (outcome.dialect.spreadsheet, outcome.rows) == (False, [{"row": 1, "email": "'=a", "name": "'+b"}])


@pytest.mark.parametrize("header", ["email;name;_spreadsheet", "_spreadsheet;email;name", "email;_spreadsheet;name"])
def test_rewritten_by_a_spreadsheet(tmp_path: Path, header: str) -> None:
    """Another delimiter, CRLF, no byte order mark, columns in another order: the marker is known by its name."""
    cells = {"email": "'=a", "name": "'+b", "_spreadsheet": ""}
    row = ";".join(cells[name] for name in header.split(";"))
    outcome = read(put(tmp_path, "a.csv", f"{header}\r\n{row}\r\n"))
    assert outcome.rows == [{"row": 1, "email": "=a", "name": "+b"}]


def test_mapped_it_is_a_column_like_others(tmp_path: Path) -> None:
    """Whoever maps a column of that name means its values."""
    outcome = read(put(tmp_path, "a.csv", "email,_spreadsheet\n'=a,'=b\n"), ReadOptions(mapping={"_spreadsheet": "name"}))
    assert outcome.rows == [{"row": 1, "email": "'=a", "name": "'=b"}]


def test_every_attempt_reads_the_same(tmp_path: Path) -> None:
    """It is a part of the dialect that is stored; one stored before there were markers reads as it did."""
    dialect = reader_of(put(tmp_path, "a.csv", guarded_file("'=a,b,"))).dialect
    stored = json.loads(msgspec.json.encode(dialect))
    assert msgspec.convert(stored, Dialect) == dialect
    assert stored.pop("spreadsheet") is True
    assert msgspec.convert(stored, Dialect).spreadsheet is False


def test_mended_records_come_back(tmp_path: Path) -> None:
    """A file of rejected records keeps cells and marker as they were, so that its next import reads them the same way."""
    first = read(put(tmp_path, "a.csv", guarded_file("'=a,'+b,")))
    out = io.BytesIO()
    with rejected_writer(first.dialect, out) as writer:
        writer.write(first.raw[1], "bad")
    assert out.getvalue() == b"_errors,email,name,_spreadsheet\n\"bad\",'=a,'+b,\n"
    again = read(put(tmp_path, "b.csv", out.getvalue()))
    assert (again.rows, again.dialect.ignored) == (first.rows, ())


def test_a_report_shows_the_record_as_it_stands(tmp_path: Path) -> None:
    """By column, as the file has it, without the marker."""
    outcome = read(put(tmp_path, "a.csv", guarded_file("'=a,'+b,")))
    assert record_of(outcome.raw[1], outcome.dialect) == {"email": "'=a", "name": "'+b"}


def test_preview(tmp_path: Path) -> None:
    """The marker is no column that would be ignored, and what is judged are the values without the guard."""
    long = "=" + "x" * 9
    path = put(tmp_path, "a.csv", f"id,label,_spreadsheet\n{ID},'{long},\nnonsense,a,\n")
    shown = preview(open_source(path), THINGS, ReadOptions(), ImportOptions())
    assert (shown.unmapped, shown.mapping) == ([], {"id": "id", "label": "label"})
    assert [(problem["row"], problem["field"]) for problem in shown.problems] == [(2, "id")]


def test_other_readers_see_plain_csv() -> None:
    """The apostrophe is a part of the text, and the marker a column that says nothing."""
    rows = list(csv.DictReader(io.StringIO(content(Format.CSV, RECORDS, spreadsheet=True).decode("utf-8-sig"), newline="")))
    assert [(row["label"], row[SPREADSHEET_COLUMN]) for row in rows] == [("'=1+1", "1"), ("''=1", "1")]
