"""Rejected records as values, and as files that import again."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.formats.model import Dialect, Format, ReadOptions
from penstock.formats.render import record_of, rejected_writer
from tests.formats.support import Outcome, put, read

COLUMNS = Dialect(format=Format.CSV, columns=("email", "", "name"))
NDJSON = Dialect(format=Format.NDJSON)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'a@b.co,x,"say ""hi"",\nyou"', {"email": "a@b.co", "name": 'say "hi",\nyou'}),
        (b"a,b", "a,b"),
        (b'a,"b"c,d', 'a,"b"c,d'),
        (b"a\xff,,b", {"email": "a\ufffd", "name": "b"}),
        (b"\xff", "\ufffd"),
    ],
)
def test_csv_record(raw: bytes, expected: object) -> None:
    """Cells by column; the text itself where it is no record; bytes that are no text as U+FFFD."""
    assert record_of(raw, COLUMNS) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":1,"b":[1.5,null],"c":"x","_errors":"old"}', {"a": 1, "b": [1.5, None], "c": "x"}),
        (
            b'{"a":9007199254740993,"b":1e400,"c":0.1,"d":1.50,"e":123456789012345678901}',
            {"a": 9007199254740993, "b": "1e400", "c": 0.1, "d": 1.5, "e": "123456789012345678901"},
        ),
        (b'{"a":' + b"9" * 5000 + b"}", {"a": "9" * 5000}),
        (b'{"a":0.1234567890123456789,"b":1e99999999999999999999}', {"a": "0.1234567890123456789", "b": "1e99999999999999999999"}),
        (b'{"a":1,"a":2}', '{"a":1,"a":2}'),
        (b'{"a":"\\ud800"}', '{"a":"\\ud800"}'),
        (b'{"a":}', '{"a":}'),
        (b"[1]", "[1]"),
        (b"", ""),
        (b"[" * 100_000, "[" * 100_000),
        (b'{"a":"\xff"}', '{"a":"\ufffd"}'),
    ],
)
def test_json_record(raw: bytes, expected: object) -> None:
    """Values by key, numbers never altered; the text itself where it is no object or a dict would lose a part. JSON can hold all of it."""
    record = record_of(raw, NDJSON)
    assert record == expected
    json.dumps(record, allow_nan=False).encode()


def rejected(outcome: Outcome, rows: list[int], errors: str = 'bad "x", and\nworse') -> bytes:
    out = io.BytesIO()
    with rejected_writer(outcome.dialect, out) as writer:
        for row in rows:
            writer.write(outcome.raw[row], errors)
    return out.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_round_trip(tmp_path: Path, delimiter: str, end: str) -> None:
    """Rejected rows come back verbatim behind their problems, ragged and badly quoted ones too, and read as before."""
    rows = ['a,"x,\n""y"""', "b", "c,1,2", 'd,"e"f', "g,h", '"i","j"']
    text = end.join(row.replace(",", delimiter) for row in ['email,"na""me"', *rows, ""])
    options = ReadOptions(mapping={'na"me': "name"})
    first = read(put(tmp_path, "a.csv", text), options)
    again = read(put(tmp_path, "b.csv", rejected(first, [1, 2, 3, 4, 5, 6])), options)
    assert again.dialect.columns == ("_errors", "email", 'na"me')
    assert again.dialect.ignored == ()
    assert again.rows == first.rows
    assert again.kinds == first.kinds
    third = read(put(tmp_path, "c.csv", rejected(again, [1, 2, 3, 5, 6], "new")), options)
    assert third.dialect.columns == again.dialect.columns
    assert [row["email"] for row in third.rows] == ["a", "g", "i"]
    assert third.raw[1].startswith(b'"new"' + delimiter.encode() + b"a")


def test_errors_column_elsewhere(tmp_path: Path) -> None:
    """A person may have moved the column: its old problems are ignored and the new ones stand first."""
    first = read(put(tmp_path, "a.csv", "email,_errors,name\na,old,n\n"))
    data = rejected(first, [1], "new")
    assert data == b'_errors,email,,name\n"new",a,old,n\n'
    assert read(put(tmp_path, "b.csv", data)).rows == [{"row": 1, "email": "a", "name": "n"}]


@pytest.mark.parametrize("name", ["a.ndjson", "a.json"])
def test_json_round_trip(tmp_path: Path, name: str) -> None:
    """Objects come back with one key more and every digit; what is no object stands as text beside its problems."""
    good = ['{"email":"a","price":1.10,"other":{"x":1e400}}', '{"email":"b","_errors":"old"}', "{}"]
    bad = ['{"email":"c","email":"d"}', '{"email":}', "[1]"]
    lines = [*good, *bad]
    first = read(put(tmp_path, name, "\n".join(lines) if name == "a.ndjson" else "[" + ",\n".join(lines) + "]"))
    data = rejected(first, list(range(1, 7)))
    again = read(put(tmp_path, "b" + name, data))
    assert again.error is None
    assert again.rows[:3] == first.rows
    assert again.rows[3:] == [{"row": row} for row in (4, 5, 6)]
    assert again.ignored == {"other", "_raw"}
    written = [json.loads(raw) for raw in again.raw.values()]
    assert [record["_errors"] for record in written] == ['bad "x", and\nworse'] * 6
    assert [record.get("_raw") for record in written] == [None, None, None, *bad]
    assert b'"price":1.10' in data
    assert b"1e400" in data


@pytest.mark.parametrize("form", [Format.NDJSON, Format.JSON, Format.CSV, Format.PARQUET])
def test_nothing_rejected(tmp_path: Path, form: Format) -> None:
    """Without records the file is still one of its format."""
    out = io.BytesIO()
    with rejected_writer(Dialect(format=form, columns=("email",)), out):
        pass
    expected = {Format.NDJSON: b"", Format.JSON: b"[]\n", Format.CSV: b"_errors,email\n"}
    if form is Format.PARQUET:
        assert parquet.read_table(io.BytesIO(out.getvalue())).column_names == ["email", "_errors"]
    else:
        assert out.getvalue() == expected[form]


def test_bad_bytes_stay_bad(tmp_path: Path) -> None:
    """A record that is no text is not made one: imported again unmended, it is rejected again."""
    first = read(put(tmp_path, "a.csv", b"email,name\na,\xff\n"))
    mendable = rejected(first, [1], "x")
    assert mendable == b'_errors,email,name\n"x",a,\xff\n'
    assert read(put(tmp_path, "b.csv", mendable)).kinds == first.kinds


def test_parquet_round_trip(tmp_path: Path) -> None:
    """Rows come back as text columns, which read the same as what they were."""
    columns: dict[str, Any] = {
        "email": pa.array(["a", None, "c"]),
        "count": pa.array([1, None, 3]),
        "tags": pa.array([["x"], [], None]),
        "colour": pa.array([1.5, None, 2.0]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    first = read(tmp_path / "a.parquet")
    again = read(put(tmp_path, "b.parquet", rejected(first, [1, 2, 3])))
    assert again.frame.equals(first.frame)
    assert again.dialect.columns == ("email", "count", "tags", "colour", "_errors")
    third = read(put(tmp_path, "c.parquet", rejected(again, [1, 2])))
    assert third.dialect.columns == again.dialect.columns
