"""The SELECT of an export on a real server: its columns, its order, its plan, and that no text gets out of its quotes."""

import json
from collections.abc import Iterator
from typing import Any

import adbc_driver_postgresql.dbapi as driver
import psycopg
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.bootstrap import prepare
from penstock.database.connect import Database
from penstock.errors import InvalidFilterError
from penstock.exports.model import Condition, ExportWishes, Operator
from penstock.exports.statements import children_probes, count, select
from penstock.exports.wishes import wishes_of
from penstock.resources.registry import Registry
from tests.exports.kinds import Row, filled
from tests.support.postgres import TestServer

World = tuple[psycopg.Connection[Any], Registry, list[Row]]
PARTS = """
INSERT INTO parts (kind_code, position, shown, since, price, words) VALUES
    ('a0', 2, E'b\\n"', '2024-01-31T09:30:00Z', 49.90, ARRAY['x', NULL]),
    ('a0', 1, '', '2024-01-31T10:30:00.000001+01:00', 'NaN', '{}'),
    ('A1', 1, NULL, 'infinity', NULL, NULL);
"""


@pytest.fixture(scope="module")
def world(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with postgres.fresh_database() as conninfo, filled(conninfo, tmp_path_factory.mktemp("kinds")) as made:
        made[0].execute(PARTS.encode())
        yield made


def arrow(connection: psycopg.Connection[Any], statement: str) -> pa.Table:
    """As exports read it."""
    with driver.connect(connection.info.dsn, autocommit=True) as adbc, adbc.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetch_arrow_table()


def test_every_column_has_its_shape(world: World) -> None:
    """Texts for UUIDs, numbers, lists and children; nulls stay null; the order is that of the keys' bytes."""
    connection, registry, rows = world
    table = arrow(connection, select(registry, wishes_of(registry, "kinds")))
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        **dict.fromkeys(("code", "label", "order", "other"), "string"),
        "whole": "int32",
        "exact": "string",
        "flag": "bool",
        "moment": "timestamp[us, tz=UTC]",
        **dict.fromkeys(("marks", "owner_id", "parts"), "string"),
    }
    expected = sorted(rows, key=lambda row: row["code"].encode())
    found = table.drop_columns("parts").to_pylist()
    for row in found:
        row["marks"] = None if row["marks"] is None else json.loads(row["marks"])
    as_text = [
        {
            **row,
            "exact": None if row["exact"] is None else "NaN" if row["exact"].is_nan() else f"{row['exact']:.6f}",
            "other": row["other"] and str(row["other"]),
            "owner_id": row["owner_id"] and str(row["owner_id"]),
        }
        for row in expected
    ]
    assert found == as_text


@pytest.mark.parametrize(("column", "kind"), [("exact", "text"), ("exact", "date"), ("owner_id", "text"), ("marks", "jsonb")])
def test_an_altered_column_is_no_text(world: World, column: str, kind: str) -> None:
    """Its values would stand bare in JSON, as if they were numbers or lists."""
    connection, registry, _ = world
    with connection.transaction(force_rollback=True):
        connection.execute("ALTER TABLE kinds DROP CONSTRAINT IF EXISTS kinds_owner_id_fkey")
        connection.execute(f"ALTER TABLE kinds ALTER {column} DROP DEFAULT, ALTER {column} TYPE {kind} USING NULL".encode())
        connection.execute(f"UPDATE kinds SET {column} = '{'2024-01-31' if kind == 'date' else '{}'}'".encode())
        with pytest.raises((psycopg.DataError, psycopg.ProgrammingError)):
            connection.execute(select(registry, wishes_of(registry, "kinds")).encode())


def test_children_are_compact_json_in_stored_order(world: World) -> None:
    """Fields as declared, moments in ISO 8601, numbers with their digits; `[]` for none. A field may have any name."""
    connection, registry, _ = world
    table = arrow(connection, select(registry, wishes_of(registry, "kinds", fields="parts,code")))
    assert table.column_names == ["parts", "code"]
    found = dict(zip(table["code"].to_pylist(), table["parts"].to_pylist(), strict=True))
    assert found.pop("a0") == (
        '[{"shown":"","since":"2024-01-31T09:30:00.000001Z","price":"NaN","words":[]},'
        '{"shown":"b\\n\\"","since":"2024-01-31T09:30:00Z","price":49.90,"words":["x",null]}]'
    )
    assert found.pop("A1") == '[{"shown":null,"since":"infinity","price":null,"words":null}]'
    assert set(found.values()) == {"[]"}


def test_children_that_are_nowhere_are_not_looked_for(world: World) -> None:
    """What the probe says is empty is left out; alone it is a constant, of the same type."""
    connection, registry, _ = world
    wishes = wishes_of(registry, "kinds", fields="code,parts")
    alone = wishes_of(registry, "kinds", fields="parts")
    assert children_probes(registry, wishes_of(registry, "kinds", fields="code")) == {}
    (probe,) = children_probes(registry, wishes).values()
    assert connection.execute(probe.encode()).fetchone() == (True,)
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM parts")
        assert connection.execute(probe.encode()).fetchone() == (False,)
        statements = [select(registry, alone), select(registry, alone, empty={"parts"})]
        looked, constant = (connection.execute(statement.encode()) for statement in statements)
        assert (looked.description or [])[0].type_code == (constant.description or [])[0].type_code
        assert looked.fetchall() == constant.fetchall()
    assert "parts" in statements[0].partition("FROM")[2]
    assert '"parts"' not in statements[1].partition("FROM")[2]
    assert "parts" not in select(registry, wishes, empty={"parts"})


HOSTILE = st.text(
    st.sampled_from("'\"\\%$;-{}()E \n\r\t\x01é表ソ日語\u2028\u202e\U0001f600ab")
    | st.characters(exclude_characters="\0", exclude_categories=["Cs"])
)


@settings(deadline=None, max_examples=300)
@given(text=HOSTILE)
@example(text="'; DROP TABLE kinds; --")
@example(text="\\'; DROP TABLE kinds; --")
@example(text="%s %(x)s {} {0} $1 :x ?")
@example(text="\\" * 7)
def test_a_text_is_never_more_than_a_text(world: World, text: str) -> None:
    """Asked of the server itself: the literal in the statement is the text, in either reading of backslashes, and no encoding spoils it."""
    connection, registry, _ = world
    condition = Condition(name="order", operator=Operator.EQ, values=(text,))
    statement = count(registry, ExportWishes(resource="kinds", fields=("code",), conditions=(condition,)))
    literal = statement.partition('"order" = ')[2]
    for conforming in ("on", "off"):
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL standard_conforming_strings = {conforming}".encode())
            assert connection.execute(f"SELECT {literal}, 1".encode()).fetchall() == [(text, 1)]


@pytest.mark.parametrize("encoding", ["BIG5", "SJIS", "EUC_JP", "GB18030", "LATIN1"])
def test_another_connections_encoding_spoils_no_text(world: World, encoding: str) -> None:
    """The driver would quote by the encoding of the connection that was opened last."""
    connection, registry, _ = world
    text = "日本'語 ソ\\' 表'; 😀"
    psycopg.connect(connection.info.dsn, client_encoding=encoding).close()
    wishes = wishes_of(registry, "kinds", fields="code", filters=[f"order={text}"])
    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE kinds SET \"order\" = %s WHERE code = 'a0'", [text])
        assert connection.execute(select(registry, wishes).encode()).fetchall() == [("a0",)]


def test_a_filter_that_is_gone_is_told(world: World) -> None:
    """A stored request may be older than the resource."""
    condition = Condition(name="colour", operator=Operator.EQ, values=("red",))
    with pytest.raises(InvalidFilterError, match="kinds has no filter 'colour' any more"):
        count(world[1], ExportWishes(resource="kinds", fields=("code",), conditions=(condition,)))


MANY = """
INSERT INTO users (id, email, name, created_at)
SELECT md5('u' || n)::uuid, 'User' || n || '@Example.com', 'Name ' || n, now() - n * interval '1 s' FROM generate_series(1, 20000) n;
INSERT INTO addresses (user_id, position, street, city, state, zip_code, country)
SELECT id, 1, 's', 'c', 's', 'z', 'c' FROM users;
INSERT INTO articles (id, slug, title, body, author_id)
SELECT md5('a' || n)::uuid, 'article-' || n, 't', 'b', md5('u' || n % 20000 + 1)::uuid FROM generate_series(1, 50000) n;
INSERT INTO comments (article_id, user_id, body)
SELECT md5('a' || n)::uuid, md5('u' || n % 20000 + 1)::uuid, 'b' FROM generate_series(1, 50000) n;
INSERT INTO products (id, price, stock) SELECT 'p' || n, 1, 1 FROM generate_series(1, 50000) n;
ANALYZE;
"""


@pytest.fixture(scope="module")
def crowded(postgres: TestServer) -> Iterator[psycopg.Connection[Any]]:
    with postgres.fresh_database() as conninfo:
        database = Database(conninfo)
        prepare(database, Registry.load())
        database.close()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(MANY.encode())
            yield connection


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def read_whole(connection: psycopg.Connection[Any], statement: str) -> tuple[set[str], int]:
    """Tables that are read from end to end, and how many rows come."""
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}, plan["Actual Rows"]


@pytest.mark.parametrize(
    ("resource", "filters", "whole", "rows"),
    [
        ("users", ["email=USER7@example.com"], set(), 1),
        ("users", ["email[in]=user7@example.com,USER8@EXAMPLE.COM,nobody@example.com"], set(), 2),
        ("users", ["id=FB33DEE0-7571-A5C9-E1B3-B8A1E0A8E9C3"], set(), 0),
        ("articles", ["slug=article-7"], set(), 1),
        ("articles", ["slug[in]=article-7,article-8", "status=draft"], set(), 2),
        ("articles", ["author=user7@example.com"], {"users"}, 3),  # users have no index on their names
        ("articles", ["author[in]=Name 7,user8@example.com"], {"users"}, 6),
        ("comments", ["article=article-7"], set(), 1),
        ("products", ["id=p7"], set(), 1),
        ("products", ["id[in]=p7,p8"], set(), 2),
    ],
)
def test_keys_and_references_are_found_by_their_indexes(
    crowded: psycopg.Connection[Any], resource: str, filters: list[str], whole: set[str], rows: int
) -> None:
    """Beside 50,000 records; the children of those found too."""
    registry = Registry.load()
    wishes = wishes_of(registry, resource, filters=filters)
    assert read_whole(crowded, select(registry, wishes)) == (whole, rows)
    found, _ = read_whole(crowded, count(registry, wishes))
    assert found == whole


def test_an_export_of_everything_reads_each_table_once(crowded: psycopg.Connection[Any]) -> None:
    """No table is read anew for each record."""
    registry = Registry.load()
    row = crowded.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {select(registry, wishes_of(registry, 'users'))}".encode()).fetchone()
    assert row is not None
    again = [n["Relation Name"] for n in nodes(row[0][0]["Plan"]) if n["Node Type"] == "Seq Scan" and n["Actual Loops"] > 1]
    assert again == []
