"""Parquet: values as exact text, columns as in CSV, damage with a clear reason."""

import datetime as dt
import gzip
import json
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from penstock.errors import MissingColumnsError, TruncatedFileError, UnknownFormatError
from penstock.formats.model import Format, Position, ReadOptions
from tests.formats.support import Outcome, put, read, reader_of

UTC = dt.UTC
ID = uuid.UUID("11111111-2222-4333-8444-555555555555")


def save(folder: Path, columns: dict[str, pa.Array], **how: Any) -> Path:
    path = folder / "a.parquet"
    parquet.write_table(pa.table(columns), path, **how)
    return path


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array(["a", "", None]), ["a", "", None]),
        (pa.array(["a", "é", None], pa.large_string()), ["a", "é", None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([b"a\xc3\xa9", None]), ["aé", None]),
        (pa.array([2**63 - 1, -(2**63)]), ["9223372036854775807", "-9223372036854775808"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([Decimal("1.10"), Decimal("-0.05")]), ["1.10", "-0.05"]),
        (pa.array([Decimal("12345678901234567890.12")]), ["12345678901234567890.12"]),
        (pa.array([0.1, 5.0, 1e-7]), ["0.1", "5", "1e-7"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([math.nan, math.inf]), ["nan", "inf"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([ID.bytes, None], pa.binary(16)), [str(ID), None]),
        (pa.array([ID.bytes, None], pa.uuid()), [str(ID), None]),
        (pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)]), ["2024-01-02T03:04:05Z"]),
        (pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 120000, UTC)], pa.timestamp("us")), ["2024-01-02T03:04:05.12"]),
        (pa.array([0], pa.timestamp("ms", "Europe/Berlin")), ["1970-01-01T00:00:00Z"]),
        (pa.array([1_500_000_000, 1], pa.timestamp("ns", "UTC")), ["1970-01-01T00:00:01.5Z", "1970-01-01T00:00:00.000000001Z"]),
        (pa.array([10], pa.timestamp("s")), ["1970-01-01T00:00:10"]),
        (pa.array([dt.date(2024, 1, 2)]), ["2024-01-02"]),
        (pa.array([["a", None], [], None]), ['["a",null]', "[]", None]),
        (pa.array([[{"name": "x", "n": Decimal("1.50")}]]), ['[{"name":"x","n":1.50}]']),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), ['{"k":1}']),
        (pa.array([[math.nan]]), ['["nan"]']),
        (pa.array([None, None], pa.null()), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_as_text(tmp_path: Path, values: pa.Array, texts: list[str | None]) -> None:
    """Every Arrow type comes as the text that means the same, with no digit lost and none added."""
    outcome = read(save(tmp_path, {"email": values}))
    assert outcome.values("email") == texts
    assert not outcome.broken


def test_rows_have_no_lines(tmp_path: Path) -> None:
    """Rows are numbered, lines are not; a record is shown as a JSON object of all its columns."""
    outcome = read(save(tmp_path, {"email": pa.array(["a", "b"]), "colour": pa.array([1, None])}))
    assert outcome.dialect.format is Format.PARQUET
    assert outcome.dialect.ignored == ("colour",)
    assert outcome.lines == {1: None, 2: None}
    assert [json.loads(raw) for raw in outcome.raw.values()] == [{"email": "a", "colour": "1"}, {"email": "b", "colour": None}]


def many(folder: Path) -> Path:
    return save(folder, {"email": pa.array([f"u{n}" for n in range(5000)]), "name": pa.array(["x" * 50] * 5000)}, row_group_size=700)


def test_nul_in_a_columns_name(tmp_path: Path) -> None:
    """It shows as its sign, in the dialect and in what is reported of a record."""
    outcome = read(save(tmp_path, {"co\0lour": pa.array(["red"]), "email": pa.array(["a"])}))
    assert outcome.dialect.columns == ("co\u2400lour", "email")
    assert outcome.rows == [{"row": 1, "email": "a"}]
    assert json.loads(outcome.raw[1]) == {"co\u2400lour": "red", "email": "a"}


def test_goes_on_from_any_chunk(tmp_path: Path) -> None:
    """Chunks follow row groups and their size; from the end of any of them exactly the rest is read, whatever the size then."""
    path = many(tmp_path)
    whole = read(path, ReadOptions(chunk_bytes=2000))
    assert whole.values("email") == [f"u{n}" for n in range(5000)]
    assert len(whole.ends) > 8
    for end in whole.ends[::5]:
        for size in (500, 9000, 1 << 20):
            rest = read(path, ReadOptions(chunk_bytes=size), end)
            assert [row["row"] for row in rest.rows] == list(range(end.row, 5001))
    assert read(path, start=Position(offset=5000, row=5001, line=0)).ends == []


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_as_a_whole(tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Parquet file inside gzip or zstd is unpacked to a file that is gone when reading begins."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    path = put(tmp_path, "b.parquet.gz", pack(many(tmp_path).read_bytes()))
    assert read(path).frame.height == 5000
    assert not [*(tmp_path / "tmp").iterdir()]
    with pytest.raises(TruncatedFileError):
        read(put(tmp_path, "c.parquet.gz", path.read_bytes()[:-20]))
    assert not [*(tmp_path / "tmp").iterdir()]


def test_columns_are_checked(tmp_path: Path) -> None:
    """Missing columns stop a Parquet file as they stop a CSV file."""
    with pytest.raises(MissingColumnsError):
        reader_of(save(tmp_path, {"name": pa.array(["x"])}))
    with pytest.raises(MissingColumnsError):
        reader_of(save(tmp_path, {"Email": pa.array(["x"])}))


def test_bad_text_costs_one_record(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, in a string column that no reader had checked, reject their record."""
    bad = pa.array([b"a", b"\xff", b"c"]).cast(pa.binary()).view(pa.string())
    outcome = read(save(tmp_path, {"email": pa.array(["x", "y", "z"]), "name": bad}))
    assert outcome.kinds == {2: "invalid_encoding"}
    assert outcome.values("name") == ["a", "c"]


def test_large_records(tmp_path: Path) -> None:
    """A row above the limit is rejected."""
    outcome = read(save(tmp_path, {"email": pa.array(["a", "x" * 2000, "c"])}), ReadOptions(max_record_bytes=1000))
    assert outcome.verdicts == [(2, "record_too_large", "1000")]
    assert outcome.values("email") == ["a", "c"]


def test_damage(tmp_path: Path) -> None:
    """Cut off, damaged inside or no Parquet at all: each stops with its own error, and never with rows that are wrong."""
    data = many(tmp_path).read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    with pytest.raises(TruncatedFileError):
        reader_of(put(tmp_path, "b.parquet", data[:-100]))
    with pytest.raises(UnknownFormatError):
        reader_of(put(tmp_path, "b.parquet", data[:footer] + b"\xff" * 32 + data[footer + 32 :]))
    with pytest.raises(UnknownFormatError):
        reader_of(put(tmp_path, "b.parquet", b"email,name\na,b\n"))
    damaged = read(put(tmp_path, "b.parquet", data[:30] + b"\xff" * 60 + data[90:]))
    assert isinstance(damaged.error, TruncatedFileError)


def test_empty_table(tmp_path: Path) -> None:
    """A Parquet file without rows holds no records."""
    outcome: Outcome = read(save(tmp_path, {"email": pa.array([], pa.string())}))
    assert (outcome.ends, outcome.error) == ([], None)
