"""A resource with every type of field, a reference, children and named filters, and hostile rows of it."""

import itertools
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from penstock.bootstrap import prepare
from penstock.database.connect import Database
from penstock.resources.keys import canonical
from penstock.resources.registry import Registry

OWNERS = """
name: owners
schema:
  primaryKey: id
  naturalKey: email
  caseless: true
  fields:
    - {name: id, type: string, format: uuid}
    - {name: email, type: string, format: email, constraints: {required: true, maxLength: 320}}
    - {name: name, type: string}
    - {name: level, type: integer}
"""
KINDS = """
name: kinds
schema:
  primaryKey: code
  naturalKey: label
  caseless: true
  fields:
    - {name: code, type: string, constraints: {required: true, maxLength: 600}}
    - {name: label, type: string, constraints: {required: true, maxLength: 600}}
    - {name: "order", type: string}
    - {name: other, type: string, format: uuid}
    - {name: whole, type: integer}
    - {name: exact, type: number, precision: 20, scale: 6}
    - {name: flag, type: boolean}
    - {name: moment, type: datetime}
    - {name: marks, type: list}
    - {name: owner_id, type: string, format: uuid}
  foreignKeys:
    - {fields: owner_id, reference: {resource: owners, fields: id}}
  children:
    - field: parts
      table: parts
      parentColumn: kind_code
      fields:
        - {name: shown, type: string}
        - {name: since, type: datetime}
        - {name: price, type: number, precision: 9, scale: 2}
        - {name: words, type: list}
  filters:
    - {name: mark, fields: [marks]}
    - {name: owner, fields: [owner_id.email, owner_id.name, owner_id.id, owner_id.level]}
    - {name: anything, fields: [order, whole, flag, other, owner_id.name]}
"""

Row = dict[str, Any]
TEXTS = [
    "", "a", "A", "ab", "a%b", "a_b", "\\", "\\'", "'", "''", '"', "%s", "{}", "é", "e\u0301", "ß", "日本'語", "\U0001d4b3", " a", "a\nb",
    "$$", "--", None,
]  # fmt: skip
LABELS = ["Straße", "Ärger", "abc", "ABD", "İx", "x'\\", "ΣΑΣ", "a,b", '"q"', "zz top", "Z", "é", "\u017ft", "10", "%", "_"]
IDS = [uuid.UUID(int=n << 64 | n) for n in (0, 1, 2**63, 2**64 - 1)]
WHOLES = [-(2**31), -1, 0, 1, 10, 2**31 - 1, None]
EXACTS = [Decimal(text) for text in ("49.90", "0", "-1.5", "99999999999999.999999", "NaN")] + [None]
FLAGS = [True, False, None]
MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 1, 31, 9, 30, tzinfo=UTC), datetime(2024, 1, 31, 9, 30, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), None,
]  # fmt: skip
MARKS = [[], ["a"], ["a", "b"], ["a,b"], [""], ["\\", '"', "'"], ["日本'語"], None]
OWNED: list[Row] = [
    {"id": IDS[1], "email": "Ann@Example.com", "name": "Ann", "level": 10},
    {"id": IDS[2], "email": "b'o@example.com", "name": "ab", "level": None},
    {"id": IDS[3], "email": "jörg@bücher.example", "name": None, "level": 1},
]


def kinds() -> list[Row]:
    """48 rows in which every value of each list above stands, beside ever other values of the others."""
    pools: dict[str, list[Any]] = {
        "order": TEXTS, "other": [*IDS, None], "whole": WHOLES, "exact": EXACTS, "flag": FLAGS, "moment": MOMENTS, "marks": MARKS,
        "owner_id": [*IDS[1:], None],
    }  # fmt: skip
    turning = {name: itertools.cycle(pool) for name, pool in pools.items()}
    rows: list[Row] = []
    for n in range(48):
        label = f"{LABELS[n % len(LABELS)]}{n // len(LABELS) or ''}"
        # Each pool is turned on by another step now and then, so that two pools of one length do not stay in step.
        rows.append({"code": f"{'aAé'[n % 3]}{n}", "label": label} | {name: next(values) for name, values in turning.items()})
        next(turning[list(pools)[n % len(pools)]])
    return rows


@contextmanager
def filled(conninfo: str, folder: Path) -> Iterator[tuple[psycopg.Connection[Any], Registry, list[Row]]]:
    """The rows of `kinds`, their owners, and parts for some of them, in tables that Penstock made."""
    (folder / "owners.yaml").write_text(OWNERS)
    (folder / "kinds.yaml").write_text(KINDS)
    registry, database, rows = Registry.load(folder), Database(conninfo), kinds()
    prepare(database, registry)
    database.close()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for table, key, records in (("owners", "email", OWNED), ("kinds", "label", rows)):
            field = registry.get(table).by_name[key]
            for record in records:
                values = {**record, f"{key}_key": canonical(record[key], field, folds=True)}
                names = ", ".join(f'"{name}"' for name in values)
                connection.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(values))})".encode(), list(values.values())
                )
        yield connection, registry, rows


def later(moment: datetime) -> str:
    """The same moment, as it is said two hours east; what lies too near to the end of time, in UTC."""
    try:
        return (moment + timedelta(hours=2)).replace(tzinfo=None).isoformat() + "+02:00"
    except OverflowError:
        return moment.isoformat()


def as_json(items: list[str]) -> str:
    return json.dumps(items)
