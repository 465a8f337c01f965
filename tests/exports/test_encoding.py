"""Records to files: what an encoder writes, the project's own readers, Python's and Arrow's read as it was."""

import csv
import io
import json
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from penstock.errors import InvalidOptionError, UnexportableValueError
from penstock.exports.columns import Column
from penstock.exports.encoding import encoder
from penstock.exports.encoding.parquet import ROW_GROUP_BYTES
from penstock.formats.model import Format
from penstock.resources.model import Field, FieldType
from tests.exports.encoded import COLUMNS, HOSTILE, Record, batch_of, content, meant, read_back, values_of, whole
from tests.support.postgres import TestServer

TEXT_FORMS = (Format.CSV, Format.NDJSON, Format.JSON)
FORMS = [(form, False) for form in Format] + [(Format.CSV, True)]
SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
MOMENTS = (FIRST, LAST, datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))

texts = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
moments = st.sampled_from(MOMENTS) | st.datetimes(timezones=st.just(UTC)) | st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)  # fmt: skip
uuids = st.uuids().map(str)


def numbers(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return (st.sampled_from([0, most, -most]) | st.integers(-most, most)).map(lambda number: Decimal(f"{number}e-{scale}"))


def fixed(number: Decimal) -> str:
    """With all its digits, as PostgreSQL writes it."""
    return f"{number:f}"


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


parts = st.fixed_dictionaries({
    "name": optional(texts), "price": optional(numbers(30, 12)), "made_at": optional(moments.map(lambda moment: moment.isoformat())),
    "serial": optional(uuids), "words": optional(st.lists(optional(texts), max_size=3)),
})  # fmt: skip
records = st.fixed_dictionaries({
    "id": uuids, "label": texts, "whole": optional(st.sampled_from([-(2**31), 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1)),
    "exact": optional(numbers(12, 2).map(fixed)), "note": optional(texts), "flag": optional(st.booleans()), "moment": optional(moments),
    "marks": optional(st.lists(optional(texts), max_size=3)), "parts": st.lists(parts, max_size=3),
})  # fmt: skip
tables = st.lists(records, max_size=8)
cuts = st.lists(st.integers(0, 4), max_size=4)


@given(table=tables, sizes=cuts)
@SETTINGS
def test_there_and_back(tmp_path: Path, table: list[Record], sizes: list[int]) -> None:
    """The project's readers read from every form what was written, null and the empty text told apart, however it came in batches."""
    for form, spreadsheet in FORMS:
        data = content(form, table, sizes=sizes, spreadsheet=spreadsheet)
        if table:
            assert values_of(read_back(tmp_path, form, data)) == meant(table), (form, spreadsheet)


@given(table=tables, sizes=cuts)
@SETTINGS
def test_batches_leave_no_trace(table: list[Record], sizes: list[int]) -> None:
    """The bytes of a text file are the same however its records came in batches, empty ones among them."""
    for form in TEXT_FORMS:
        assert content(form, table, sizes=sizes) == content(form, table)


@given(table=tables)
@SETTINGS
def test_others_read_the_same(table: list[Record]) -> None:
    """Python's csv and json read the texts that were written, and NDJSON has a line for each record."""
    lines = content(Format.NDJSON, table).decode().split("\n")
    assert lines.pop() == ""
    objects = [json.loads(line, parse_float=str) for line in lines]
    assert [entry["label"] for entry in objects] == [record["label"] for record in table]
    assert [entry["exact"] for entry in objects] == [record["exact"] for record in table]
    assert json.loads(content(Format.JSON, table), parse_float=str) == objects
    rows = list(csv.reader(io.StringIO(content(Format.CSV, table).decode(), newline="")))
    assert rows[0] == [column.name for column in COLUMNS]
    assert [(row[1], row[4]) for row in rows[1:]] == [(record["label"], record["note"] or "") for record in table]
    assert [json.loads(row[8], parse_float=str) for row in rows[1:]] == [entry["parts"] for entry in objects]


ONE = {
    "id": "00000d6c-6dbe-410c-a1a9-bb0846ccf387", "label": "a", "whole": 1, "exact": "49.90", "note": "", "flag": True,
    "moment": datetime(2024, 1, 31, 9, 30, tzinfo=UTC), "marks": ["x", None], "parts": [{"name": "p", "price": Decimal("1.50")}],
}  # fmt: skip
BARE = {"id": ONE["id"], "label": "b", "moment": datetime(2024, 1, 31, 9, 30, 0, 50, tzinfo=UTC)}


def test_csv_as_it_looks() -> None:
    """A header, LF, quotes where needed, an empty cell for null and a quoted one for the empty text; lists as JSON."""
    assert content(Format.CSV, [ONE, BARE]).decode() == (
        "id,label,whole,exact,note,flag,moment,marks,parts\n"
        '00000d6c-6dbe-410c-a1a9-bb0846ccf387,a,1,49.90,"",true,2024-01-31T09:30:00Z,"[""x"",null]","[{""name"":""p"",""price"":1.50}]"\n'
        "00000d6c-6dbe-410c-a1a9-bb0846ccf387,b,,,,,2024-01-31T09:30:00.000050Z,,[]\n"
    )


def test_ndjson_as_it_looks() -> None:
    """Fields in order, nulls written, numbers with their digits, nothing between values."""
    assert content(Format.NDJSON, [ONE, BARE]).decode() == (
        '{"id":"00000d6c-6dbe-410c-a1a9-bb0846ccf387","label":"a","whole":1,"exact":49.90,"note":"","flag":true,'
        '"moment":"2024-01-31T09:30:00Z","marks":["x",null],"parts":[{"name":"p","price":1.50}]}\n'
        '{"id":"00000d6c-6dbe-410c-a1a9-bb0846ccf387","label":"b","whole":null,"exact":null,"note":null,"flag":null,'
        '"moment":"2024-01-31T09:30:00.000050Z","marks":null,"parts":[]}\n'
    )


def test_json_is_an_array_of_the_same_lines() -> None:
    """The lines of NDJSON between brackets, with commas behind all but the last."""
    lines = content(Format.NDJSON, [ONE, BARE]).decode().splitlines()
    assert content(Format.JSON, [ONE, BARE]).decode() == "[\n" + ",\n".join(lines) + "\n]\n"


@pytest.mark.parametrize(("form", "expected"), [(Format.NDJSON, b""), (Format.JSON, b"[]\n"), (Format.CSV, b"id,label\n")])
@pytest.mark.parametrize("batches", [0, 2])
def test_no_records(form: Format, expected: bytes, batches: int) -> None:
    """Without a batch, or with empty ones, the file is whole and holds no record."""
    assert whole(encoder(form, COLUMNS[:2]), [batch_of([])] * batches) == expected


@pytest.mark.parametrize("batches", [0, 2])
def test_no_records_in_parquet(batches: int) -> None:
    """The schema stands in it all the same."""
    table = parquet.read_table(pa.BufferReader(whole(encoder(Format.PARQUET, COLUMNS), [batch_of([])] * batches)))
    assert (table.num_rows, table.column_names) == (0, [column.name for column in COLUMNS])


@pytest.mark.parametrize(
    "order", [("exact", "label", "flag", "marks", "id"), ("parts", "moment"), ("label",), ("exact",), ("note", "marks")]
)
def test_any_columns_in_any_order(order: tuple[str, ...]) -> None:
    """JSON that is encoded and JSON that is passed on stand beside each other in every order."""
    columns = [next(column for column in COLUMNS if column.name == name) for name in order]
    line = whole(encoder(Format.NDJSON, columns), [batch_of([ONE, BARE], columns)]).decode().splitlines()
    full = [json.loads(text) for text in content(Format.NDJSON, [ONE, BARE]).decode().splitlines()]
    assert [json.loads(text) for text in line] == [{name: record[name] for name in order} for record in full]
    assert [tuple(json.loads(text)) for text in line] == [order, order]


def test_parquet_types() -> None:
    """Each field has its own type, to the bottom of lists; pages are packed with zstd."""
    file = parquet.ParquetFile(pa.BufferReader(content(Format.PARQUET, [ONE])))
    part = pa.struct([
        ("name", pa.string()), ("price", pa.decimal128(30, 12)), ("made_at", pa.timestamp("us", "UTC")), ("serial", pa.uuid()),
        ("words", pa.list_(pa.string())),
    ])  # fmt: skip
    assert [field.type for field in file.schema_arrow] == [
        pa.uuid(), pa.string(), pa.int32(), pa.decimal128(12, 2), pa.string(), pa.bool_(), pa.timestamp("us", "UTC"), pa.list_(pa.string()),
        pa.list_(part),
    ]  # fmt: skip
    assert str(file.schema.column(0).logical_type) == "UUID"
    assert file.metadata.row_group(0).column(1).compression == "ZSTD"


def test_parquet_row_groups_are_bounded() -> None:
    """A row group is written as soon as 16 MiB are gathered, and its bytes are handed over then."""
    record = {**ONE, "label": "x" * 1_000_000}
    encoding = encoder(Format.PARQUET, COLUMNS)
    batch = batch_of([record] * 4)
    sizes = [len(encoding.head())] + [len(encoding.encode(batch)) for _ in range(12)] + [len(encoding.tail())]
    most = -(-ROW_GROUP_BYTES // batch.nbytes)
    assert [index for index, size in enumerate(sizes) if size] == [0, *range(most, 13, most), 13]


@pytest.fixture(scope="module")
def driver(postgres: TestServer) -> Iterator[Any]:
    with dbapi.connect(postgres.conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def of_one(form: Format, driver: Any, field: Field, expression: str) -> str:
    """The file's text of one value, as the driver gives it."""
    driver.execute(f"SELECT {expression} AS value")
    data = whole(encoder(form, [Column("value", field)]), driver.fetch_record_batch())
    return data.decode().partition("\n")[2].removesuffix("\n") if form is Format.CSV else data.decode()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
        ("0001-01-01 00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31 23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("10000-01-01 00:00:00Z", "+010000-01-01T00:00:00Z"),
        ("294247-01-10 04:00:54.775807Z", "+294247-01-10T04:00:54.775807Z"),
        ("294247-01-10 04:00:54.775808Z", "+294247-01-10T04:00:54.775808Z"),
        ("294276-12-31 23:59:59.999999Z", "+294276-12-31T23:59:59.999999Z"),
        ("0001-12-31 23:59:59Z BC", "+000000-12-31T23:59:59Z"),
        ("0002-02-03 04:05:06.5Z BC", "-000001-02-03T04:05:06.500000Z"),
        ("4714-11-24 00:00:00Z BC", "-004713-11-24T00:00:00Z"),
        ("2106-11-22 23:59:59Z", "2106-11-22T23:59:59Z"),
        ("2106-11-23 00:00:00Z", "2106-11-23T00:00:00Z"),
        ("1969-12-31 23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_every_moment_of_postgresql(driver: Any, written: str, expected: str) -> None:
    """What no datetime holds is told all the same, though the driver's arithmetic runs over."""
    field, expression = Field("value", FieldType.DATETIME), f"'{written}'::timestamptz"
    assert of_one(Format.CSV, driver, field, expression) == expected
    assert json.loads(of_one(Format.NDJSON, driver, field, expression)) == {"value": expected}


def test_moments_beside_others(driver: Any) -> None:
    """One moment that no datetime holds leaves those beside it as they are, and nulls null."""
    driver.execute(
        "SELECT unnest(ARRAY['infinity', NULL, '2024-01-31Z', '2024-01-31 00:00:00.5Z', '10000-01-01Z']::timestamptz[]) AS value"
    )
    data = whole(encoder(Format.CSV, [Column("value", Field("value", FieldType.DATETIME))]), driver.fetch_record_batch())
    assert data.decode().split("\n")[1:-1] == [
        "infinity", "", "2024-01-31T00:00:00Z", "2024-01-31T00:00:00.500000Z", "+010000-01-01T00:00:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize("digits", ["49.90", "0", "-0.5", "1e-20", "1e30", "12345678901234567890.10", "NaN", "Infinity", "-Infinity"])
def test_every_number_of_postgresql(driver: Any, digits: str) -> None:
    """Its own digits; in JSON, what has none is quoted."""
    field, expression = Field("value", FieldType.NUMBER, precision=12, scale=2), f"'{digits}'::numeric::text"
    written = of_one(Format.CSV, driver, field, expression)
    assert Decimal(written).compare_total(Decimal(digits)) == 0 or written == fixed(Decimal(digits))
    value = f'"{digits}"' if digits[-1] in string.ascii_letters else written
    assert of_one(Format.NDJSON, driver, field, expression) == f'{{"value":{value}}}\n'


@pytest.mark.parametrize(
    "change",
    [
        {"exact": "NaN"},
        {"exact": "Infinity"},
        {"exact": "1.005"},
        {"exact": "99999999999.00"},
        {"moment": -9222425352054775809},
        {"moment": -9222425352054775808},
        {"marks": [["a"], ["b"]]},
        {"parts": [{"name": "p", "price": "NaN"}]},
        {"parts": [{"name": "p", "made_at": "infinity"}]},
    ],
)
def test_parquet_refuses_what_it_cannot_hold(change: Record) -> None:
    """Nothing is rounded or left out: the error names the field and what to do."""
    with pytest.raises(UnexportableValueError, match="export as CSV, NDJSON or JSON") as refused:
        content(Format.PARQUET, [ONE, {**ONE, **change}])
    assert refused.value.details["field"].startswith(next(iter(change)))


def test_only_csv_is_for_spreadsheets() -> None:
    """Other formats have no cells that a spreadsheet would take for formulas."""
    with pytest.raises(InvalidOptionError, match="spreadsheet is for CSV"):
        encoder(Format.JSON, COLUMNS, spreadsheet=True)
