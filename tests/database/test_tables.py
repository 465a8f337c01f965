"""Tables of resources: made with the keys that make a record land once, and checked for them where they stand already."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from penstock.bootstrap import prepare
from penstock.database import tables
from penstock.database.connect import Database
from penstock.database.tables import create_table, ensure_tables
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError
from penstock.resources.model import Child, Field, FieldType, Resource, ResourceName
from penstock.resources.registry import Registry

ID = Field("id", FieldType.UUID)
CODE = Field("code", FieldType.STRING, required=True, max_length=20)
PRICE = Field("price", FieldType.NUMBER, precision=6, scale=2)
SINCE = Field("since", FieldType.DATETIME)
STATE = Field("state", FieldType.STRING, enum=("draft", "live"))
THINGS = Resource(ResourceName("things"), "things", (ID, CODE, PRICE, SINCE, STATE), natural_key="code")
FOLDED = replace(THINGS, folds_case=True)
PARENT = replace(THINGS, children=(Child("parts", "parts", "thing_id", (Field("label", FieldType.STRING),)),))

COLUMNS = "id uuid PRIMARY KEY, code varchar(20), price numeric(6,2), since timestamptz, state varchar(5)"
KEY = "CREATE UNIQUE INDEX ON things (code)"
FOLDED_KEY = 'CREATE UNIQUE INDEX ON things ((coalesce(code_key, lower(code COLLATE "C")) COLLATE "C"))'


@pytest.fixture
def connection(empty_database: str) -> Any:
    with psycopg.connect(empty_database, autocommit=True) as opened:
        yield opened


def refusal(connection: psycopg.Connection[Any], resource: Resource, *statements: str) -> DatabaseRefusedError:
    for statement in statements:
        connection.execute(statement)
    with pytest.raises(DatabaseRefusedError) as caught:
        ensure_tables(connection, [resource])
    return caught.value


@pytest.mark.parametrize("resource", [THINGS, FOLDED, PARENT])
def test_what_is_made_stands(connection: psycopg.Connection[Any], resource: Resource) -> None:
    """A table that Penstock made passes its own check at the next start, and nothing of the check is left behind."""
    ensure_tables(connection, [resource])
    ensure_tables(connection, [resource])
    assert connection.execute("SELECT to_regclass('pg_temp.penstock_expected')").fetchone() == (None,)


def test_indexes_of_two_resources_do_not_meet(connection: psycopg.Connection[Any]) -> None:
    """Where table and key joined read the same, both tables still get their unique key."""
    first = Resource(ResourceName("order"), "order", (ID, replace(CODE, name="item_code")), natural_key="item_code")
    second = Resource(ResourceName("order_item"), "order_item", (ID, CODE), natural_key="code")
    ensure_tables(connection, [first, second])
    for table, column in (('"order"', "item_code"), ("order_item", "code")):
        insert = f"INSERT INTO {table} ({column}) VALUES ('a')"
        connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)


def test_long_names_stay_apart(connection: psycopg.Connection[Any]) -> None:
    """Names are shortened before PostgreSQL would cut them, so those that begin alike do not meet."""
    names = set()
    for key in ("c" * 58 + "a", "c" * 58 + "b"):
        resource = Resource(ResourceName("t"), "t", (ID, replace(CODE, name=key)), natural_key=key)
        names.add(create_table(resource)[1].as_string(connection).split('"')[1])
    assert [len(name) for name in names] == [63, 63]


@pytest.mark.parametrize(
    ("resource", "statements"),
    [
        (THINGS, [f"CREATE TABLE things ({COLUMNS})", KEY]),
        (THINGS, [f"CREATE TABLE things ({COLUMNS}, UNIQUE (code))"]),
        (THINGS, [f"CREATE TABLE things ({COLUMNS})", 'CREATE UNIQUE INDEX ON things ((code COLLATE "C"))']),
        (FOLDED, [f"CREATE TABLE things ({COLUMNS}, code_key text)", FOLDED_KEY]),
        (FOLDED, [f"CREATE TABLE things (extra int, {COLUMNS.replace('varchar(20)', 'text')}, code_key varchar)", FOLDED_KEY]),
        (THINGS, [f"CREATE TABLE things ({COLUMNS.replace('(6,2)', '').replace('(5)', '')})", KEY]),
        (THINGS, [f"CREATE TABLE things ({COLUMNS.replace('(6,2)', '(8,4)')})", KEY]),
    ],
)
def test_a_fitting_table_is_taken(connection: psycopg.Connection[Any], resource: Resource, statements: list[str]) -> None:
    """Whatever made it: wider columns, a constraint instead of an index, other columns beside."""
    for statement in statements:
        connection.execute(statement)
    ensure_tables(connection, [resource])


@pytest.mark.parametrize(
    ("resource", "statements", "message"),
    [
        (THINGS, [f"CREATE TABLE things ({COLUMNS})"], "nothing keeps code unique"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS})", f"{KEY} WHERE price > 0"], "nothing keeps code unique"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS})", "CREATE UNIQUE INDEX ON things (code, price)"], "nothing keeps code unique"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS})", "CREATE INDEX ON things (code)"], "nothing keeps code unique"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS})", "CREATE UNIQUE INDEX ON things (lower(code))"], "nothing keeps code unique"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS}, UNIQUE (code) DEFERRABLE)"], "nothing keeps code unique"),
        (FOLDED, [f"CREATE TABLE things ({COLUMNS}, code_key text)", KEY], "nothing keeps code unique"),
        (FOLDED, [f"CREATE TABLE things ({COLUMNS}, code_key text)", "CREATE UNIQUE INDEX ON things (lower(code))"], "nothing keeps code"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS.replace(' PRIMARY KEY', '')})", KEY], "its primary key is not id"),
        (THINGS, [f"CREATE TABLE things (n int, {COLUMNS.replace('PRIMARY KEY', '')}, PRIMARY KEY (id, n))", KEY], "its primary key"),
        (THINGS, [f"CREATE TABLE things ({COLUMNS.replace('PRIMARY KEY', 'PRIMARY KEY DEFERRABLE')})", KEY], "its primary key is not id"),
    ],
)
def test_a_table_without_its_keys_is_refused(
    connection: psycopg.Connection[Any], resource: Resource, statements: list[str], message: str
) -> None:
    """Rows would double: partial, deferrable, shared or differently compared keys do not count. The statement that helps is told."""
    fault = refusal(connection, resource, *statements)
    assert message in fault.message
    assert fault.details["statement"] in fault.message
    if "primary" not in message:
        connection.execute(fault.details["statement"])
        ensure_tables(connection, [resource])


@pytest.mark.parametrize(
    ("was", "instead", "message"),
    [
        ("varchar(20)", "varchar(5)", "code should be text or character varying(20) at least and is character varying(5)"),
        ("numeric(6,2)", "numeric(5,2)", "price should be numeric(6,2) at least and is numeric(5,2)"),
        ("numeric(6,2)", "numeric(6,3)", "and is numeric(6,3)"),
        ("numeric(6,2)", "numeric(9,1)", "and is numeric(9,1)"),
        ("numeric(6,2)", "numeric(9,-1)", "and is numeric(9,-1)"),
        ("timestamptz", "timestamptz(0)", "and is timestamp(0) with time zone"),
        ("varchar(5)", "varchar(4)", "state should be text or character varying(5) at least and is character varying(4)"),
        ("timestamptz", "timestamp", "since should be timestamp with time zone"),
        (", price numeric(6,2)", "", "is missing"),
    ],
)
def test_columns_that_are_too_narrow(connection: psycopg.Connection[Any], was: str, instead: str, message: str) -> None:
    """A value that the resource allows would be cut, rounded or refused in the middle of an import."""
    assert was in COLUMNS
    assert message in refusal(connection, THINGS, f"CREATE TABLE things ({COLUMNS.replace(was, instead)})", KEY).message


def test_unbounded_text_needs_an_unbounded_column(connection: psycopg.Connection[Any]) -> None:
    """Without a maxLength no varchar is long enough."""
    unbounded = replace(THINGS, fields=(ID, CODE, Field("note", FieldType.STRING)))
    assert (
        "note should be text and is" in refusal(connection, unbounded, f"CREATE TABLE things ({COLUMNS}, note varchar(900))", KEY).message
    )


def test_the_folded_key_needs_its_column(connection: psycopg.Connection[Any]) -> None:
    """The canonical key has a column of its own, as wide as it gets."""
    statement = f"CREATE TABLE things ({COLUMNS})"
    assert "code_key should be text and is missing" in refusal(connection, FOLDED, statement).message
    connection.execute("ALTER TABLE things ADD code_key varchar(20)")
    assert "code_key should be text and is character varying(20)" in refusal(connection, FOLDED).message


def test_a_childs_table_needs_its_parent_and_position(connection: psycopg.Connection[Any]) -> None:
    """Beside its fields."""
    fault = refusal(connection, PARENT, f"CREATE TABLE things ({COLUMNS})", KEY, "CREATE TABLE parts (thing_id text, label text)")
    assert "thing_id should be uuid and is text; position should be integer and is missing" in fault.message


def test_a_missing_childs_table_is_made(connection: psycopg.Connection[Any]) -> None:
    """Beside a table that stands, of which nothing is altered."""
    connection.execute(f"CREATE TABLE things ({COLUMNS})")
    connection.execute(KEY)
    ensure_tables(connection, [PARENT])
    indexes = connection.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'things'").fetchone()
    assert indexes == (2,)
    assert connection.execute("SELECT count(*) FROM parts").fetchone() == (0,)


@pytest.mark.parametrize(("default", "stored"), [('["a","it\'s {b, \\\\"]', ["a", "it's {b, \\"]), ("[]", [])])
def test_a_lists_default(connection: psycopg.Connection[Any], default: str, stored: list[str]) -> None:
    """A JSON array becomes PostgreSQL's own."""
    listed = Resource(ResourceName("l"), "l", (ID, Field("n", FieldType.INTEGER), Field("tags", FieldType.STRINGS, default=default)))
    ensure_tables(connection, [listed])
    assert connection.execute("INSERT INTO l (n) VALUES (1) RETURNING tags").fetchone() == (stored,)


def test_a_table_that_somebody_holds_locked(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not wait behind it for long, and says that the database is busy, not that there is a defect."""
    opened, registry = Database(empty_database), Registry.load()
    prepare(opened, registry)
    monkeypatch.setattr(tables, "_LOCK_TIMEOUT", "100ms")
    with psycopg.connect(empty_database) as holder:
        holder.execute("LOCK TABLE users")
        with pytest.raises(DatabaseUnavailableError, match="preparing the resources' tables"):
            prepare(opened, registry)
