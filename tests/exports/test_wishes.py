"""What a request asks of an export: every option and filter understood, or refused with what is allowed."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.errors import InvalidFilterError, InvalidOptionError, UnknownResourceError, UsageError
from penstock.exports.columns import Column, columns
from penstock.exports.model import Condition, ExportWishes, Operator
from penstock.exports.wishes import wishes_of, wishes_of_body, wishes_of_query
from penstock.formats.model import Compression, Format
from penstock.resources.registry import Registry

REGISTRY = Registry.load()
USER_FIELDS = ("id", "email", "name", "phone_number", "role", "active", "created_at", "updated_at", "addresses")
DECODE = msgspec.json.Decoder(float_hook=Decimal).decode


def of_query(*pairs: tuple[str, str], resource: str | None = "users") -> ExportWishes:
    return wishes_of_query(REGISTRY, pairs, resource=resource)


def of_body(**given: Any) -> ExportWishes:
    return wishes_of_body(REGISTRY, {"resource": "users", **given})


def test_what_is_not_said_is_everything() -> None:
    """All records, all fields and children, as NDJSON; however the resource is given."""
    everything = ExportWishes(resource="users", fields=USER_FIELDS)
    assert of_query() == of_query(("resource", "users"), resource=None) == of_body() == wishes_of(REGISTRY, "users") == everything


def test_three_ways_say_the_same() -> None:
    """A query, a JSON body and the options of a command."""
    wishes = ExportWishes(
        resource="users",
        format=Format.CSV,
        fields=("email", "id"),
        conditions=(
            Condition(name="role", operator=Operator.IN, values=("admin", "editor")),
            Condition(name="created_at", operator=Operator.GTE, values=("2024-01-30T22:00:00Z",)),
            Condition(name="username", operator=Operator.EQ, values=("a=b",)),
        ),
        spreadsheet=True,
    )
    filters = {"role[in]": "admin,editor", "created_at[gte]": "2024-01-31T00:00:00+02:00", "username": "a=b"}
    options = {"format": "csv", "fields": "email,id", "spreadsheet": "true"}
    assert of_query(*options.items(), *filters.items()) == wishes
    assert (
        wishes_of(
            REGISTRY, "users", format="csv", fields=["email", "id"], spreadsheet=True, filters=[f"{k}={v}" for k, v in filters.items()]
        )
        == wishes
    )
    nested = {"role": {"in": ["admin", "editor", "admin"]}, "created_at": {"gte": filters["created_at[gte]"]}, "username": "a=b"}
    assert of_body(format="csv", fields=["email", "id"], filters=nested, spreadsheet=True, compression=None) == wishes
    assert of_body(**options, filters=filters) == wishes


def test_wishes_are_stored_and_come_back() -> None:
    """As JSON, in which a queued job keeps them."""
    wishes = of_body(format="csv", compression="zstd", fields="id, name", filters={"role": {"in": ["admin"]}})
    assert wishes.compression is Compression.ZSTD
    assert wishes.fields == ("id", "name")
    assert msgspec.json.decode(msgspec.json.encode(wishes), type=ExportWishes) == wishes


def test_columns_are_fields_and_children() -> None:
    """In the order asked for; what the resource has lost since is told."""
    users = REGISTRY.get("users")
    found = columns(users, of_query(("fields", "addresses,role")))
    assert found == (Column("addresses", None, users.children[0]), Column("role", users.by_name["role"], None))
    with pytest.raises(InvalidOptionError, match="users has no field 'age' any more"):
        columns(users, ExportWishes(resource="users", fields=("id", "age")))


def test_a_field_may_bear_the_name_of_an_option(tmp_path: Any) -> None:
    """With its operator it is a filter."""
    (tmp_path / "x.yaml").write_text(
        "name: x\nschema: {primaryKey: id, fields: [{name: id, type: string, format: uuid}, {name: format}, {name: compression}]}"
    )
    wishes = wishes_of_query(Registry.of(tmp_path), [("format", "csv"), ("format[eq]", "a"), ("compression[eq]", "b")], resource="x")
    assert (wishes.format, [c.name for c in wishes.conditions]) == (Format.CSV, ["format", "compression"])


@pytest.mark.parametrize(
    ("pairs", "option", "message"),
    [
        ([("format", "xml")], "format", "must be one of csv, ndjson, json, parquet, not 'xml'"),
        ([("format", "parket")], "format", r"Did you mean parquet\?"),
        ([("format", "")], "format", "must be one of"),
        ([("format", "csv"), ("format", "csv")], "format", "more than once"),
        ([("resource", "users")], "resource", "more than once"),
        ([("fields", "")], "fields", "names no field; fields of users are id, email, .*addresses"),
        ([("fields", "id,")], "fields", "has '', which is not a field"),
        ([("fields", "id,emial")], "fields", r"has 'emial', which is not a field; .* Did you mean email\?"),
        ([("fields", "id,email,id")], "fields", "has id more than once"),
        ([("fields", "username")], "fields", "is not a field"),
        ([("spreadsheet", "maybe")], "spreadsheet", "must be true or false, not 'maybe'"),
        ([("spreadsheet", "true")], "spreadsheet", "is for format=csv only, not for ndjson"),
        ([("compression", "gzip")], "compression", "Accept-Encoding"),
    ],
)
def test_a_query_that_means_nothing(pairs: list[tuple[str, str]], option: str, message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message) as refused:
        of_query(*pairs)
    assert refused.value.details["option"] == option


@pytest.mark.parametrize(
    ("given", "option", "message"),
    [
        ({"filter": {}}, "filter", r"There is no option 'filter'; there are resource, .*\. Did you mean filters\?"),
        ({"filter": None}, "filter", "no option"),
        ({"role": "admin"}, "role", "no option 'role'"),
        ({"format": 5}, "format", "must be one of"),
        ({"fields": []}, "fields", "names no field"),
        ({"fields": [1]}, "fields", "must be a list of names"),
        ({"fields": {"id": True}}, "fields", "must be a list of names"),
        ({"fields": [""]}, "fields", "names no field"),
        ({"filters": ["role=admin"]}, "filters", "must be an object"),
        ({"filters": "role=admin"}, "filters", "must be an object"),
        ({"compression": "zip"}, "compression", "must be one of none, gzip, zstd"),
        ({"format": "parquet", "compression": "gzip"}, "compression", "must be none with format=parquet: .* compressed inside"),
        ({"format": "json", "spreadsheet": True}, "spreadsheet", "csv only, not for json"),
        ({"spreadsheet": 1}, "spreadsheet", "must be true or false"),
        ({"resource": None}, "resource", "is missing: it must be one of users, products, articles, comments"),
        ({"resource": ["users"]}, "resource", "must be a text"),
    ],
)
def test_a_body_that_means_nothing(given: dict[str, Any], option: str, message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message) as refused:
        of_body(**given)
    assert refused.value.details["option"] == option


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"role": None}, r'role cannot be null; .*"is_null": true'),
        ({"role": {"eq": None}}, "cannot be null"),
        ({"role": {"in": [None]}}, "cannot be null"),
        ({"role": ["admin"]}, r'must be one value; for several there is {"role": {"in"'),
        ({"username": ["a"]}, "must be one value"),
        ({"role": {}}, "an object of operators"),
        ({"role[in]": {"eq": "admin"}}, "an object of operators"),
        ({"role": {"in": []}}, "takes 1 to 1000 values, not 0"),
        ({"role": {"in": [["admin"]]}}, "must be a text, a number, true or false"),
        ({"role": {"in": {"a": 1}}}, "must be a text, a number, true or false"),
        ({"role": {"equals": "admin"}}, "operators of role are eq, ne"),
        ({"role": {"eq": "admin"}, "role[eq]": "user"}, "more than once"),
        ({"roles": {"eq": "admin"}}, r"Did you mean role\?"),
        ({"active": 2}, "must be true or false"),
        ({"created_at": 1706693400}, "must be an ISO 8601"),
        ({"name": {"like": 10**5000}}, "too many digits"),
    ],
)
def test_filters_of_a_body_that_mean_nothing(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFilterError, match=message):
        of_body(filters=filters)


def test_a_list_of_texts_is_one_value_of_a_list() -> None:
    """And of nothing else."""
    body = {"resource": "articles", "filters": {"tags": ["a", 'b"'], "tags[ne]": "[ ]"}}
    assert [c.values for c in wishes_of_body(REGISTRY, body).conditions] == [('["a","b\\""]',), ("[]",)]
    with pytest.raises(InvalidFilterError, match="must be a list of texts"):
        wishes_of_body(REGISTRY, {"resource": "articles", "filters": {"tags": ["a", 1.5]}})


def test_numbers_keep_their_digits() -> None:
    """However the body was decoded: no float comes between."""
    body = DECODE('{"resource": "products", "filters": {"price": 123456789012345678.10, "stock": {"in": [1, 9007199254740993]}}}')
    assert [c.values for c in wishes_of_body(REGISTRY, body).conditions] == [("123456789012345678.1",), ("1", "9007199254740993")]
    floats = {"resource": "products", "filters": {"price": {"gt": 1e-7, "lt": 1e22, "ne": 49.9}}}
    assert [c.values for c in wishes_of_body(REGISTRY, floats).conditions] == [("0.0000001",), ("1" + "0" * 22,), ("49.9",)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("", [""]),
        ("a,", ["a", ""]),
        (",,", ["", "", ""]),
        ('"a,b",c', ["a,b", "c"]),
        ('"say ""x""",""', ['say "x"', ""]),
        ('""""', ['"']),
        ('a"b', ['a"b']),
        (" a , b", [" a ", " b"]),
        ('"line\nbreak",x\ny', ["line\nbreak", "x\ny"]),
    ],
)
def test_a_list_with_commas(text: str, values: list[str]) -> None:
    """Nothing is trimmed; what holds a comma is quoted as in CSV."""
    (condition,) = of_query(("name[in]", text)).conditions
    assert condition.values == tuple(dict.fromkeys(values))


def test_an_argument_without_a_value() -> None:
    with pytest.raises(InvalidFilterError, match="'role' has no value: write role=admin"):
        wishes_of(REGISTRY, "users", filters=["role"])


def test_an_unknown_resource() -> None:
    """Is not found, wherever it is named; one that is missing is asked for."""
    with pytest.raises(UnknownResourceError):
        of_query(resource="userz")
    with pytest.raises(UnknownResourceError):
        of_query(("resource", "userz"), resource=None)
    with pytest.raises(UnknownResourceError):
        of_body(resource="userz")
    with pytest.raises(UnknownResourceError):
        wishes_of(REGISTRY, "userz")
    with pytest.raises(InvalidOptionError, match="resource is missing"):
        of_query(resource=None)


def test_every_refusal_is_the_callers_fault() -> None:
    """With status 400 and exit status 2."""
    assert (InvalidFilterError.http_status, InvalidFilterError.exit_code) == (400, 2)
    assert issubclass(InvalidFilterError, UsageError)
