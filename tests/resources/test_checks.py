"""Every code of VALIDATION_ERROR provoked, and what a record's problems are when it has several."""

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidOptionError
from penstock.resources.checks import CheckOptions, check
from penstock.resources.model import Field, FieldType, Resource, ResourceName, Rule
from penstock.resources.numbers import exact_decimal
from penstock.resources.problems import PROBLEM_COLUMNS, Kind, Problem, render
from penstock.resources.types import good_schema
from tests.resources.support import ARTICLE, COMMENT, PRODUCT, SOUND, USER, builtin, codes, run, value

ID = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
STREET = '"street":"s","city":"c","state":"t","zip_code":"z"'

PROVOKED = [
    ("users", {"email": None}, "email", "email_required"),
    ("users", {"email": ""}, "email", "email_required"),
    ("users", {"name": None}, "name", "name_required"),
    ("users", {"name": ""}, "name", "name_required"),
    ("users", {"id": "abc"}, "id", "invalid_id"),
    ("users", {"id": ID.replace("-", "")}, "id", "invalid_id"),
    ("users", {"id": "7d444840-9dc0-11d1-b24-55ffdce74fad2"}, "id", "invalid_id"),
    ("users", {"role": "king"}, "role", "invalid_role"),
    ("users", {"active": "maybe"}, "active", "invalid_active"),
    ("users", {"created_at": "now"}, "created_at", "invalid_created_at"),
    ("users", {"email": "foo@bar"}, "email", "invalid_email_format"),
    ("users", {"email": "a" * 65 + "@example.com"}, "email", "invalid_email_format"),
    ("users", {"email": f"a@{'b' * 64}.com"}, "email", "invalid_email_format"),
    ("users", {"email": f"a@{'b.' * 128}com"}, "email", "invalid_email_format"),
    ("users", {"email": f"a@{'b.' * 160}com"}, "email", "email_too_long"),
    ("users", {"name": "n" * 256}, "name", "name_too_long"),
    ("users", {"phone_number": "1" * 33}, "phone_number", "phone_number_too_long"),
    ("users", {"name": "a\0b"}, "name", "invalid_name"),
    ("users", {"name": "a\u202eb"}, "name", "invalid_name"),
    ("users", {"addresses": f"[{{{STREET}}}]"}, "addresses[0].country", "country_required"),
    ("users", {"addresses": "{}"}, "addresses", "invalid_addresses"),
    ("articles", {"slug": "Not Kebab"}, "slug", "invalid_slug_format"),
    ("articles", {"slug": "a\n"}, "slug", "invalid_slug_format"),
    ("articles", {"slug": "a" * 601}, "slug", "slug_too_long"),
    ("articles", {"author_id": "abc"}, "author_id", "invalid_author_id"),
    ("articles", {"author_id": None}, "author_id", "author_id_required"),
    ("articles", {"author_id": None, "author_email": "x"}, "author_email", "invalid_author_email_format"),
    ("articles", {"status": "lost"}, "status", "invalid_status"),
    ("articles", {"tags": "[1]"}, "tags", "invalid_tags"),
    ("articles", {"status": "draft", "published_at": "2024-01-01T00:00:00Z"}, "published_at", "draft_cannot_have_published_at"),
    ("comments", {"body": "w " * 501}, "body", "body_exceeds_500_words"),
    ("comments", {"body": "w" * 10_001}, "body", "body_too_long"),
    ("comments", {"article_id": "abc"}, "article_id", "invalid_article_id"),
    ("comments", {"user_email": None}, "user_id", "user_id_required"),
    ("products", {"price": "-0.01"}, "price", "price_out_of_range"),
    ("products", {"price": "10000000000"}, "price", "price_out_of_range"),
    ("products", {"price": "1e400"}, "price", "price_out_of_range"),
    ("products", {"price": "NaN"}, "price", "invalid_price"),
    ("products", {"price": "Infinity"}, "price", "invalid_price"),
    ("products", {"price": "1.234"}, "price", "invalid_price"),
    ("products", {"price": "1,5"}, "price", "invalid_price"),
    ("products", {"stock": "5.0"}, "stock", "invalid_stock"),
    ("products", {"stock": "+5"}, "stock", "invalid_stock"),
    ("products", {"stock": "2147483648"}, "stock", "stock_out_of_range"),
    ("products", {"stock": "9007199254740993"}, "stock", "stock_out_of_range"),
    ("products", {"stock": "-1"}, "stock", "stock_out_of_range"),
    ("products", {"id": ""}, "id", "id_required"),
]


@pytest.mark.parametrize(("name", "change", "field", "code"), PROVOKED)
def test_each_rule_has_its_code(name: str, change: dict[str, str | None], field: str, code: str) -> None:
    """A record that breaks one rule is rejected with that rule's code at that field, and the sound one beside it is not."""
    resource, sound = builtin(name), SOUND[name]
    assert codes(resource, sound, {**sound, **change}) == [(2, field, code)]
    assert run(resource, sound, {**sound, **change}).good["row"].to_list() == [1]


def test_too_short_has_its_code() -> None:
    """A text below its least length is `<field>_too_short`; an empty one in a required field is missing."""
    products = builtin("products")
    assert codes(products, {**PRODUCT, "id": ""}) == [(1, "id", "id_required")]
    short = {"row": 1, "kind": Kind.TOO_SHORT.value, "field": "id", "value": "a", "detail": "2"}
    assert render(short, products)["code"] == "id_too_short"


def test_a_record_with_three_problems_gives_three() -> None:
    """Problems come by row and, within a record, in the order of the fields."""
    bad: dict[str, str | None] = {"email": "x", "name": "", "role": "king", "created_at": "now"}
    found = codes(builtin("users"), bad, USER, {"email": None, "name": "n"})
    assert [c for _, _, c in found] == ["invalid_email_format", "name_required", "invalid_role", "invalid_created_at", "email_required"]
    assert [row for row, _, _ in found] == [1, 1, 1, 1, 3]


def test_too_many_words_and_too_long_are_both_shown() -> None:
    """A comment that is too long in words and in characters has both problems."""
    body = "long-word " * 1_200
    assert [c for _, _, c in codes(builtin("comments"), {**COMMENT, "body": body})] == ["body_too_long", "body_exceeds_500_words"]


def test_limits_count_characters() -> None:
    """255 letters of four bytes each are a name; 256 are too long."""
    assert value(builtin("users"), "name", "😀" * 255) == "😀" * 255
    assert value(builtin("users"), "name", "😀" * 256) == "name must have at most 255 characters"
    assert value(builtin("comments"), "body", "é\u2003" * 500) == "é\u2003" * 500


def test_the_shape_of_what_is_yielded() -> None:
    """`good` has every column of the declaration in its type and `problems` those of the catalogue, whatever the file holds."""
    for name, record in SOUND.items():
        resource = builtin(name)
        for checked in (
            run(resource, record),
            run(resource, {"row_is_empty": None}),
            check(resource, pl.DataFrame(schema={"row": pl.Int64}), [], CheckOptions()),
        ):
            assert checked.good.schema == good_schema(resource)
            assert checked.problems.schema == PROBLEM_COLUMNS


def test_rows_come_in_order() -> None:
    """Records that arrive in any order leave by row."""
    frame = pl.DataFrame({"row": [3, 1, 2], "email": ["c@x.co", "a@x.co", "bad"], "name": ["c", "a", "b"]})
    checked = check(builtin("users"), frame, [], CheckOptions())
    assert checked.good.select("row", "email").rows() == [(1, "a@x.co"), (3, "c@x.co")]
    assert checked.problems["row"].to_list() == [2]


def test_empty_text_and_no_value() -> None:
    """Empty text is a value in free text and no value elsewhere."""
    users = builtin("users")
    good = run(users, {**USER, "phone_number": "", "role": "", "active": "", "created_at": "", "id": "", "addresses": ""}).good.row(
        0, named=True
    )
    assert good["phone_number"] == ""
    assert [good[n] for n in ("role", "active", "created_at", "id", "addresses")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "truth"), [("true", True), ("TRUE", True), ("Yes", True), ("1", True), ("false", False), ("nO", False), ("0", False)]
)
def test_booleans(text: str, truth: bool) -> None:
    """true, false, 1, 0, yes and no in any case."""
    assert value(builtin("users"), "active", text) is truth


def test_uuids_in_any_case() -> None:
    """A UUID is 16 bytes, whatever the case of its digits."""
    users = builtin("users")
    assert value(users, "id", ID) == value(users, "id", ID.upper()) == bytes.fromhex(ID.replace("-", ""))


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e2", "100"), ("0.10", "0.1"), ("1.2300", "1.23"), ("-0", "0"), ("0e999999999999", "0"), ("9999999999.99", "9999999999.99")],
)
def test_numbers_are_exact(text: str, number: str) -> None:
    """What fits a number's digits is stored as the number that was written."""
    assert value(builtin("products"), "price", text) == Decimal(number)


def test_digits_that_do_not_fit_are_refused_in_words() -> None:
    """The message says that nothing is rounded."""
    assert (
        value(builtin("products"), "price", "1.005")
        == "price must be a number with at most 2 digits after the decimal point; nothing is rounded"
    )
    assert value(builtin("products"), "stock", "-1") == "stock must be between 0 and 2147483647"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None), st.sampled_from(["{}", "{:f}", "{:e}", "{:E}"]))
def test_exact_decimal_is_exact_or_refuses(number: Decimal, spelling: str) -> None:
    """A number comes out equal to what was written, or not at all."""
    text = spelling.format(number)
    found = exact_decimal(text, 12, 2)
    fits = number == 0 or (abs(number) < 10**10 and number == number.quantize(Decimal("0.01")))
    assert found == Decimal(text) if fits else isinstance(found, Kind)


def test_absurd_exponents_cost_nothing() -> None:
    """An exponent of a million digits is out of range, or too fine, without being computed."""
    assert exact_decimal("1e" + "9" * 1_000_000, 12, 2) is Kind.OUT_OF_RANGE
    assert exact_decimal("1e-" + "9" * 1_000_000, 12, 2) is Kind.INVALID_FORMAT
    assert exact_decimal("9" * 1_000_000, 12, 2) is Kind.OUT_OF_RANGE


def test_a_reference_is_given_by_id_or_by_key() -> None:
    """Either satisfies a required reference; an e-mail refers by its canonical key."""
    articles = builtin("articles")
    by_key = {**ARTICLE, "author_id": None, "author_email": "Ann@Example.COM"}
    good = run(articles, ARTICLE, by_key).good
    assert good["author_email"].to_list() == [None, "ann@example.com"]
    assert [None if i is None else i.hex() for i in good["author_id"]] == [ID.replace("-", ""), None]
    assert codes(articles, {**by_key, "author_email": ""}) == [(1, "author_id", "author_id_required")]


def test_only_stored_records_are_changed() -> None:
    """With `partial` a required field may be absent, but one key must be there."""
    users, comments = builtin("users"), builtin("comments")
    assert codes(users, {"email": "a@x.co", "phone_number": "1"}, {"id": ID, "email": None}, {"id": None, "email": ""}, partial=True) == [
        (3, "email", "email_required")
    ]
    assert codes(comments, {"body": "b"}, partial=True) == [(1, "id", "id_required")]
    assert codes(users, {"id": ID, "name": ""}, partial=True) == []


def test_wrong_json_types_are_not_missing() -> None:
    """A cell that was there but of a wrong JSON type has one problem, and nothing that depends on it is judged."""
    wrong = [Problem(1, Kind.INVALID, "name", "5", "a text"), Problem(1, Kind.INVALID, "author_email", "5", "a text")]
    assert codes(builtin("users"), {**USER, "name": None}, wrong=wrong[:1]) == [(1, "name", "invalid_name")]
    assert codes(builtin("articles"), {**ARTICLE, "author_id": None}, wrong=wrong[1:]) == [(1, "author_email", "invalid_author_email")]
    status = [Problem(1, Kind.INVALID, "status", "5", "a text")]
    draft = {**ARTICLE, "published_at": "2024-01-01T00:00:00Z"}
    assert codes(builtin("articles"), draft, wrong=status, nulls_are_final=True) == [(1, "status", "invalid_status")]


def test_a_rule_waits_for_the_stored_values() -> None:
    """While a stored value may stand in for an absent one, a rule that reads it is only noted; with final nulls defaults decide."""
    articles = builtin("articles")
    silent = {**ARTICLE, "published_at": "2024-01-01T00:00:00Z"}
    checked = run(articles, silent, {**silent, "status": "published"}, ARTICLE)
    assert checked.good["broken_if_new"].to_list() == ["draft_cannot_have_published_at", None, None]
    assert codes(articles, silent, nulls_are_final=True) == [(1, "published_at", "draft_cannot_have_published_at")]
    assert run(articles, ARTICLE, nulls_are_final=True).good["broken_if_new"].to_list() == [None]


def test_a_rule_says_what_the_declaration_says() -> None:
    """The rule's message stands in the error record, with the cell as it was read."""
    articles = builtin("articles")
    problem = run(articles, {**ARTICLE, "status": "draft", "published_at": "2024-01-01T00:00:00Z"}).problems.row(0, named=True)
    assert render(problem, articles) == {
        "type": "VALIDATION_ERROR",
        "code": "draft_cannot_have_published_at",
        "field": "published_at",
        "value": "2024-01-01T00:00:00Z",
        "message": "a draft has no published_at",
    }


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_can_be_said(kind: Kind) -> None:
    """Each kind of the catalogue becomes a type, a code without gaps and a message."""
    said = render({"row": 1, "kind": kind.value, "field": "addresses[0].street", "value": None, "detail": "author_id"}, builtin("users"))
    assert said["code"].replace("_", "").isalnum()
    assert said["message"]
    assert said["type"].endswith("_ERROR")


def test_dangling_names_the_references_own_field() -> None:
    """A dangling e-mail is the code of the id that it stands for."""
    problem = {"row": 1, "kind": Kind.DANGLING.value, "field": "author_email", "value": "a@x.co", "detail": "author_id"}
    assert render(problem, builtin("articles"))["code"] == "invalid_author_id"


def test_defaults_are_not_filled_in() -> None:
    """Absent values stay absent: whether a default or a stored value stands in is decided where the row is known."""
    good = run(builtin("users"), USER).good.row(0, named=True)
    assert [good[n] for n in ("role", "active", "created_at")] == [None, None, None]


def test_options_are_checked_when_they_are_made() -> None:
    """An unknown zone or a format that names no day is an error of the request."""
    for options in ({"timezone": "Mars/Olympus"}, {"datetime_format": "%H:%M"}, {"datetime_format": "%Q"}, {"timezone": "+02:00"}):
        with pytest.raises(InvalidOptionError):
            CheckOptions(**options)  # type: ignore[arg-type]  # one option each


def test_common_and_other_timestamps_mean_the_same() -> None:
    """The shape that takes the short road and those that do not give the same moment."""
    users = builtin("users")
    moment = datetime(2024, 1, 31, 9, 30, tzinfo=UTC)
    for text in (
        "2024-01-31T09:30:00Z",
        "2024-01-31 09:30Z",
        "2024-01-31T10:30:00+01:00",
        "2024-01-31T09:30:00.000z",
        "2024-01-31T08:00:00-0130",
        "2024-01-31T11:30+02",
    ):
        assert value(users, "created_at", text) == moment


def test_rules_read_defaults_of_every_type() -> None:
    """An absent value counts as its default in a rule, whatever its type, and fields may have any name."""
    fields = (
        Field("id", FieldType.UUID),
        Field("sure", FieldType.STRINGS, default='["a"]'),
        Field("value", FieldType.NUMBER, precision=4, scale=1, default="2.5"),
        Field("text", FieldType.BOOLEAN, default="false"),
        Field("at", FieldType.DATETIME, default="now()"),
    )
    rule = Rule(
        "too_dear",
        "value",
        "text OR value < 3 OR at IS NULL OR sure IS NULL",
        "too dear",
        ("text", "value", "at", "sure"),
    )
    resource = Resource(ResourceName("r"), "r", fields, rules=(rule,))
    assert run(resource, {"value": None}, {"value": "3.5"}).good["broken_if_new"].to_list() == [None, "too_dear"]
    assert codes(resource, {"value": None, "text": "true"}, {"value": "3.5", "text": ""}, nulls_are_final=True) == [
        (2, "value", "too_dear")
    ]
