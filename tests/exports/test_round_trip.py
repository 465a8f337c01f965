"""What an export gives, an import takes back: into an empty database the same records, so the same bytes; into the same one nothing new.

With random records of every type, whatever text, moments and numbers they hold, in every format, each in a CSV for spreadsheets too.
"""

import string
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from penstock.bootstrap import Application, prepare
from penstock.database.connect import Database
from penstock.exports.model import ExportWishes
from penstock.formats.model import Compression, Format, ReadOptions
from penstock.jobs.model import ImportOptions, Job, Mode
from penstock.resources.registry import Registry
from penstock.settings import Settings
from tests.support.postgres import TestServer

SPECIMENS = """
name: specimens
schema:
  primaryKey: id
  naturalKey: label
  caseless: true
  fields:
    - {name: id, type: string, format: uuid}
    - {name: label, type: string, constraints: {required: true, maxLength: 50}}
    - {name: note, type: string}
    - {name: kind, type: string, default: plain, constraints: {enum: [plain, "=odd", "'-odder"]}}
    - {name: amount, type: number, precision: 38, scale: 10}
    - {name: price, type: number, precision: 12, scale: 2}
    - {name: stock, type: integer}
    - {name: open, type: boolean}
    - {name: seen_at, type: datetime}
    - {name: tags, type: list, itemType: string}
  children:
    - field: parts
      table: specimen_parts
      parentColumn: specimen_id
      fields:
        - {name: name, type: string, constraints: {required: true}}
        - {name: weight, type: number, precision: 20, scale: 5}
        - {name: made_at, type: datetime}
        - {name: spare, type: boolean}
"""
FIELDS = ("id", "label", "note", "kind", "amount", "price", "stock", "open", "seen_at", "tags")
PART_FIELDS = ("name", "weight", "made_at", "spare")
HOSTILE = (
    'say "hi"', "a,b;c\td",
    "line\nline", "line\rline", "line\r\nline", "\x01\x02\x1b\x7f", "=1+1", "+1", "-1", "@x", "'=1+1", "''-1",
    "'tis", "\t=1", "\uff1dSUM(A1)", "\\N", "\\.", "NULL", "null", "\u200fright\u200eleft\u061c", "\U0001f600\u200d\U0001f9b0",
    "\u2028\u2029\ufeff",
    " padded ", "\u00a0", "{}", "[]", '{"a":1}', "0042", "1e5", "true", "_errors", "\u0130\u212a", "e\u0301", "x" * 5000, "",
)  # fmt: skip

REFUSED = "\0\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # by imports, wherever they stand
texts = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters=REFUSED), max_size=20)
labels = st.text(string.ascii_lowercase + "'=@é", min_size=1, max_size=12)
moments = st.sampled_from([
    datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(2024, 1, 31, 9, 30, tzinfo=UTC),
    datetime(2024, 1, 31, 9, 30, 0, 500000, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
]) | st.datetimes(timezones=st.just(UTC))  # fmt: skip


def numbers(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    digits = st.sampled_from([0, 1, -1, most, -most, 10**scale]) | st.integers(-most, most)
    return digits.map(lambda number: Decimal(f"{number}e-{scale}"))


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


parts = st.fixed_dictionaries(
    {"name": texts.filter(bool), "weight": optional(numbers(20, 5)), "made_at": optional(moments), "spare": optional(st.booleans())}
)
specimens = st.fixed_dictionaries({
    "id": st.uuids(), "label": labels, "note": optional(texts), "kind": st.sampled_from(["plain", "=odd", "'-odder"]),
    "amount": optional(numbers(38, 10)), "price": optional(numbers(12, 2)),
    "stock": optional(st.sampled_from([-(2**31), 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1)), "open": optional(st.booleans()),
    "seen_at": optional(moments), "tags": optional(st.lists(texts, min_size=1, max_size=3)), "parts": st.lists(parts, max_size=3),
})  # fmt: skip
FORMS = [*((form, False) for form in Format), (Format.CSV, True)]


class Place:
    """A database with specimens, and the services over it."""

    def __init__(self, conninfo: str, folder: Path) -> None:
        (folder / "specimens.yaml").write_text(SPECIMENS)
        registry = Registry.load(folder)
        self.database = Database(conninfo)
        prepare(self.database, registry)
        chosen = Settings(_env_file=None)  # type: ignore[call-arg]  # pydantic-settings' own parameter
        self.application = Application(chosen, registry, self.database)

    def hold(self, records: list[dict[str, Any]]) -> None:
        """Exactly these."""
        with self.database.connect() as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE specimens, specimen_parts")
            for record in records:
                marks = ", ".join(["%s"] * len(FIELDS))
                # The column for keys beyond ASCII is the import's to fill; these labels hold one letter that it folds to itself.
                cursor.execute(
                    f"INSERT INTO specimens ({', '.join(FIELDS)}, label_key) VALUES ({marks}, NULL)".encode(),
                    [record[name] for name in FIELDS],
                )
                for position, part in enumerate(record["parts"]):
                    cursor.execute(
                        b"INSERT INTO specimen_parts (specimen_id, position, name, weight, made_at, spare) VALUES (%s, %s, %s, %s, %s, %s)",
                        [record["id"], position, *(part[name] for name in PART_FIELDS)],
                    )
            connection.commit()

    def exported(self, form: Format, compression: Compression = Compression.NONE, *, spreadsheet: bool) -> bytes:
        wishes = ExportWishes(
            resource="specimens", format=form, fields=(*FIELDS, "parts"), compression=compression, spreadsheet=spreadsheet
        )
        with self.application.exports.export(wishes, counted=True) as export:
            content = b"".join(export.pieces())
            assert export.rows == export.total_rows
        return content

    def imported(self, file: Path, mode: Mode = Mode.UPSERT) -> Job:
        imports = self.application.imports
        job = imports.create("specimens", str(file), read=ReadOptions(), options=ImportOptions(mode=mode))
        return imports.run(job.job_id, progress=lambda _: None, cancel=threading.Event())


@pytest.fixture(scope="module")
def places(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    with postgres.fresh_database() as one, postgres.fresh_database() as other:
        made = Place(one, tmp_path_factory.mktemp("one")), Place(other, tmp_path_factory.mktemp("other"))
        yield made
        for place in made:
            place.database.close()


def specimen(number: int, **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(FIELDS) | {"kind": "plain", "parts": []}
    return {**empty, "id": f"00000000-0000-4000-8000-{number:012}", "label": f"label{number}", **values}


ALL_HOSTILE = [
    specimen(n, note=text, tags=[text], parts=[{**dict.fromkeys(PART_FIELDS), "name": text or "x"}]) for n, text in enumerate(HOSTILE)
]


@example(records=[])
@example(records=ALL_HOSTILE)
@example(records=[specimen(1, note=""), specimen(2, note=None), specimen(3, tags=["", "x"]), specimen(4, tags=[])])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(records=st.lists(specimens, max_size=12, unique_by=(lambda r: r["id"], lambda r: r["label"])))
def test_there_and_back(places: tuple[Place, Place], tmp_path: Path, records: list[dict[str, Any]]) -> None:
    here, there = places
    here.hold(records)
    for form, spreadsheet in FORMS:
        content = here.exported(form, spreadsheet=spreadsheet)
        file = tmp_path / f"specimens.{form}"
        file.write_bytes(content)
        if not content:  # NDJSON has no other way to say that there are no records, and an empty file is refused: it may be half of one
            assert (form, records) == (Format.NDJSON, [])
            continue
        again = here.imported(file)
        assert (again.status, again.unchanged_rows, again.failed_rows) == ("COMPLETED", len(records), 0), (form, spreadsheet, again.errors)
        assert here.exported(form, spreadsheet=spreadsheet) == content
        there.hold([])
        fresh = there.imported(file, Mode.INSERT)
        assert (fresh.status, fresh.imported_rows, fresh.failed_rows) == ("COMPLETED", len(records), 0), (form, spreadsheet, fresh.errors)
        assert there.exported(form, spreadsheet=spreadsheet) == content
        assert there.exported(Format.NDJSON, spreadsheet=False) == here.exported(Format.NDJSON, spreadsheet=False)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
def test_compressed(places: tuple[Place, Place], tmp_path: Path, form: Format, compression: Compression) -> None:
    """Compressed files come back as well, and the same records give the same bytes."""
    here, _ = places
    here.hold(ALL_HOSTILE)
    content = here.exported(form, compression, spreadsheet=False)
    assert content == here.exported(form, compression, spreadsheet=False)
    file = tmp_path / f"specimens.{form}.{'gz' if compression is Compression.GZIP else 'zst'}"
    file.write_bytes(content)
    job = here.imported(file)
    assert (job.status, job.unchanged_rows, job.total_rows) == ("COMPLETED", len(ALL_HOSTILE), len(ALL_HOSTILE)), job.errors
