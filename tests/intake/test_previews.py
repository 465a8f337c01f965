"""What a preview tells of a file, whole or cut."""

import gzip
import io
from typing import Any

import polars as pl
import pytest

from penstock.errors import InvalidOptionError, UnknownFormatError
from penstock.formats.model import Compression, Format, ReadOptions
from penstock.intake.heads import HeadSource
from penstock.intake.previews import PREVIEW_RECORDS, Preview, preview
from penstock.intake.suggesting import suggested
from penstock.jobs.model import ImportOptions, Mode
from penstock.resources.registry import Registry

REGISTRY = Registry.load()


def _look(name: str, data: bytes, *, whole: bool = True, resource: str | None = "users", mode: Mode = Mode.UPSERT, **read: Any) -> Preview:
    found = None if resource is None else REGISTRY.get(resource)
    return preview(HeadSource(name, data, whole=whole), found, ReadOptions(**read), ImportOptions(mode=mode))


def _codes(shown: Preview) -> list[tuple[int, str]]:
    return [(problem["row"], problem["code"]) for problem in shown.problems]


def test_how_a_csv_file_is_written() -> None:
    shown = _look("u.csv.gz", gzip.compress("E-Mail;Name\nä@example.com;x\n".encode("utf-16")), resource=None)
    assert (shown.format, shown.compression, shown.encoding, shown.delimiter) == (Format.CSV, Compression.GZIP, "utf-16-le", ";")
    assert (shown.columns, shown.mapping, shown.problems) == (["E-Mail", "Name"], {}, [])
    assert [(r.row, r.line, r.record) for r in shown.records] == [(1, 2, {"E-Mail": "ä@example.com", "Name": "x"})]


NDJSON = b'{"EMAIL": "a@example.com", "name": "A"}\n{"EMAIL": "b", "name": 3}\n{broken\n'
ARRAY = b'[{"EMAIL": "a@example.com", "name": "A"},\n{"EMAIL": "b", "name": 3},\n{broken}]'


@pytest.mark.parametrize(("name", "data"), [("u.ndjson", NDJSON), ("u.json", ARRAY)])
def test_json_keys_are_the_columns(name: str, data: bytes) -> None:
    """Suggestions for keys like for columns; what is no record is shown as it stands."""
    shown = _look(name, data)
    assert shown.columns == ["EMAIL", "name"]
    assert shown.mapping == {"EMAIL": "email", "name": "name"}
    assert _codes(shown) == [(2, "invalid_name"), (2, "invalid_email_format"), (3, "malformed_json")]
    assert isinstance(shown.records[2].record, str)


def test_no_more_than_the_first_records_are_shown_and_judged() -> None:
    shown = _look("u.csv", b"email,name\n" + b"wrong,x\n" * 100)
    assert len(shown.records) == PREVIEW_RECORDS
    assert [row for row, _ in _codes(shown)] == list(range(1, PREVIEW_RECORDS + 1))


CUTS = {
    "in a row": ("u.csv", b'email,name\na@example.com,A\nb@example.com,"B'),
    "in a line": ("u.ndjson", b'{"email": "a@example.com", "name": "A"}\n{"email": "b@exa'),
    "in an element": ("u.json", b'[{"email": "a@example.com", "name": "A"}, {"email": "b@exa'),
    "in a character": ("u.csv", "email,name\na@example.com,A\nb@example.com,ä".encode()[:-1]),
    "in a gzip stream": ("u.csv.gz", gzip.compress(b"email,name\na@example.com,A\n" + bytes(range(65, 91)) * 20)[:70]),
}


@pytest.mark.parametrize("name", CUTS)
def test_where_the_beginning_ends_is_no_fault(name: str) -> None:
    """The record that was cut is not shown."""
    shown = _look(*CUTS[name], whole=False)
    assert (len(shown.records), shown.problems, shown.faults, shown.whole) == (1, [], [], False)


def test_a_whole_file_that_breaks_off_is_a_fault() -> None:
    shown = _look("u.json", b'[{"email": "a@example.com", "name": "A"}, {"email"')
    assert [fault.code for fault in shown.faults] == ["truncated_file"]


def test_missing_and_doubled_columns_are_faults_and_not_the_end() -> None:
    shown = _look("u.csv", b"mail address,phone\na@example.com,1\n")
    assert (shown.missing, [fault.code for fault in shown.faults], shown.problems) == (["email", "name"], ["missing_columns"], [])
    shown = _look("u.csv", b"email,email,name\na@example.com,b@example.com,A\n")
    assert [fault.code for fault in shown.faults] == ["duplicate_columns"]
    assert shown.records[0].record == {"email": "a@example.com", "email (2)": "b@example.com", "name": "A"}


def test_the_mode_decides_what_must_be_there() -> None:
    assert _look("u.csv", b"email,role\na@example.com,admin\n").missing == ["name"]
    assert _look("u.csv", b"email,role\na@example.com,admin\n", mode=Mode.UPDATE).missing == []


def test_a_mapping_that_is_given_stands() -> None:
    shown = _look("u.csv", b"email,work,name\nwrong,a@example.com,A\n", mapping={"work": "email"})
    assert (shown.mapping, shown.unmapped, shown.problems) == ({"work": "email", "name": "name"}, ["email"], [])
    with pytest.raises(InvalidOptionError, match="does not have"):
        _look("u.csv", b"email,name\n", mapping={"email": "mail"})


def test_parquet_needs_its_end() -> None:
    out = io.BytesIO()
    pl.DataFrame({"Email": ["a@example.com", "wrong"], "name": ["A", "B"]}).write_parquet(out)
    shown = _look("u.parquet", out.getvalue())
    assert (shown.format, shown.columns, _codes(shown)) == (Format.PARQUET, ["Email", "name"], [(2, "invalid_email_format")])
    cut = _look("u.parquet", out.getvalue()[:200], whole=False)
    assert (cut.format, cut.records, cut.faults, len(cut.notes)) == (Format.PARQUET, [], [], 1)


def test_a_record_longer_than_the_beginning_is_told() -> None:
    for data in (b"email,name\n" + b"x" * 2000, b"x" * 2000, b" " * 2000):
        shown = _look("u.csv", data, whole=False)
        assert (shown.records, shown.faults, len(shown.notes)) == ([], [], 1)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UnknownFormatError):
        _look("u.xlsx", b"PK\x03\x04" + b"\0" * 100)


@pytest.mark.parametrize(
    ("columns", "mapping"),
    [
        (["id", "email"], {"id": "id", "email": "email"}),
        (["E-MAIL", "Name"], {"E-MAIL": "email", "Name": "name"}),
        (["phone number", "Phone_Number"], {"Phone_Number": "phone_number"}),
        (["emial", "nmae"], {"emial": "email", "nmae": "name"}),
        (["Email", "email"], {"email": "email"}),
        (["", "size"], {}),
    ],
)
def test_what_columns_probably_stand_for(columns: list[str], mapping: dict[str, str]) -> None:
    """The same name, without case, without punctuation, nearly; the closest first, each field once."""
    fields = ["id", "email", "name", "phone_number"]
    assert suggested(columns, fields, {}) == mapping
