"""Records read back from real rows."""

import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.bootstrap import prepare
from penstock.database.connect import Database
from penstock.errors import DatabaseRefusedError, InvalidIdError, RecordNotFoundError, UnknownResourceError
from penstock.records import Records
from penstock.resources.registry import Registry

ID = "0a1b2c3d-0000-4000-8000-00000000ABCD"
WIDE = """
name: wide
schema:
  primaryKey: code
  fields:
    - {name: code, type: string, constraints: {required: true, maxLength: 600}}
    - {name: "order", type: integer}
    - {name: exact, type: number, precision: 30, scale: 10}
    - {name: labels, type: list, itemType: string}
""" + "".join(f"    - {{name: f{n}, type: string}}\n" for n in range(80))
Read = Callable[[str, str], dict[str, Any]]


@pytest.fixture
def opened(database: str, tmp_path: Path) -> Iterator[tuple[Database, Registry]]:
    (tmp_path / "wide.yaml").write_text(WIDE)
    registry, db = Registry.load(tmp_path), Database(database)
    prepare(db, registry)
    yield db, registry
    db.close()


@pytest.fixture
def run(opened: tuple[Database, Registry]) -> Callable[..., None]:
    def execute(statement: str, *values: Any) -> None:
        with opened[0].connect(autocommit=True) as connection:
            connection.execute(statement, values)

    return execute


@pytest.fixture
def read(opened: tuple[Database, Registry]) -> Read:
    records = Records(*opened)
    return lambda resource, record_id: json.loads(records.get(resource, record_id), parse_float=Decimal)


def test_a_user_with_addresses(run: Callable[..., None], read: Read) -> None:
    """Fields in their order, then the children in theirs; the id in lower case, no value as null, no internal column."""
    run(
        "INSERT INTO users (id, email, email_key, name, created_at) VALUES (%s, 'İ@x.org', 'k', 'Ł \"x\"', '2024-05-01T14:00:00+02:00')", ID
    )
    for position, city in ((1, "second"), (0, "first")):
        run(
            "INSERT INTO addresses (user_id, position, street, city, state, zip_code, country) VALUES (%s, %s, 's', %s, 's', '007', 'c')",
            *(ID, position, city),
        )
    user = read("users", ID)
    assert list(user)[:4] == ["id", "email", "name", "phone_number"]
    assert list(user)[-1] == "addresses"
    assert "email_key" not in user
    assert (user["id"], user["email"], user["name"]) == (ID.lower(), "İ@x.org", 'Ł "x"')
    assert (user["phone_number"], user["active"], user["created_at"]) == (None, True, "2024-05-01T12:00:00Z")
    assert [a["city"] for a in user["addresses"]] == ["first", "second"]
    assert user["addresses"][0] == {"street": "s", "city": "first", "state": "s", "zip_code": "007", "country": "c"}


def test_a_parent_without_children_has_an_empty_list(run: Callable[..., None], read: Read) -> None:
    """Neither null nor absent."""
    run("INSERT INTO users (id, email, name) VALUES (%s, 'a@x.org', 'A')", ID)
    assert read("users", ID)["addresses"] == []


@pytest.mark.parametrize("key", ["abc123", "a/b/../c", "東京 ?&#%", "'; DROP TABLE products; --", "%s", "x" * 600, " "])
def test_text_keys(run: Callable[..., None], read: Read, key: str) -> None:
    """Any text that an import takes is found as it is."""
    run("INSERT INTO products (id, price, stock) VALUES (%s, 1, 1)", key)
    assert read("products", key)["id"] == key


@pytest.mark.parametrize("price", ["49.99", "49.90", "0.00", "9999999999.99", "0.01"])
def test_numbers_keep_their_digits(run: Callable[..., None], opened: tuple[Database, Registry], price: str) -> None:
    """The JSON number is the stored numeric, trailing zeros included."""
    run("INSERT INTO products (id, price, stock) VALUES ('p', %s::numeric, 2147483647)", price)
    text = Records(*opened).get("products", "p").decode()
    assert f'"price":{price},' in text
    assert '"stock":2147483647' in text


def test_many_fields_of_every_type(run: Callable[..., None], read: Read) -> None:
    """Far more fields than a function takes arguments; a list; more digits than a float holds; a name that SQL reserves."""
    run("INSERT INTO wide (code, \"order\", exact, labels) VALUES ('c', -1, 12345678901234567890.0123456789, ARRAY['a\"b', '', 'ć'])")
    found = read("wide", "c")
    assert len(found) == 84
    assert (found["order"], found["exact"], found["labels"]) == (-1, Decimal("12345678901234567890.0123456789"), ['a"b', "", "ć"])


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("0001-01-01 00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31 23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2024-02-29 23:59:59.5Z", "2024-02-29T23:59:59.500000Z"),
        ("2024-07-01 00:00:00+14:00", "2024-06-30T10:00:00Z"),
        ("1969-12-31 23:59:59.000001Z", "1969-12-31T23:59:59.000001Z"),
        ("infinity", "infinity"),
        ("0044-03-15 12:00:00Z BC", "0044-03-15 12:00:00+00 BC"),
    ],
)
def test_timestamps(run: Callable[..., None], read: Read, stored: str, shown: str) -> None:
    """UTC with Z, microseconds only where there are any; what ISO 8601 cannot say is not bent."""
    run("INSERT INTO products (id, price, stock, updated_at) VALUES ('p', 1, 1, %s)", stored)
    assert read("products", "p")["updated_at"] == shown


@pytest.mark.parametrize("given", ["", "1", "abc", ID[:-1], ID + "0", ID.replace("-", ""), "{" + ID + "}", "urn:uuid:" + ID, ID + "\n"])
def test_what_is_no_uuid_is_refused(read: Read, given: str) -> None:
    """invalid_id, without a question to the database."""
    with pytest.raises(InvalidIdError):
        read("users", given)


@pytest.mark.parametrize("given", ["", "a\0b", "x" * 601, "\ud800"])
def test_what_can_be_no_text_key_is_refused(read: Read, given: str) -> None:
    """invalid_id; the message shows little of it."""
    with pytest.raises(InvalidIdError) as caught:
        read("products", given)
    assert len(caught.value.message) < 400


def test_what_is_not_there(read: Read) -> None:
    """An unknown record and an unknown resource are told apart."""
    for resource, given in (("users", str(uuid.uuid4())), ("products", "nothing")):
        with pytest.raises(RecordNotFoundError):
            read(resource, given)
    with pytest.raises(UnknownResourceError):
        read("addresses", ID)


def test_a_table_that_went_away_is_an_error_of_ours(run: Callable[..., None], read: Read) -> None:
    """The driver's exceptions do not come through."""
    run("DROP TABLE products")
    with pytest.raises(DatabaseRefusedError):
        read("products", "p")
