"""Events from JSON: taken exactly, or refused with the field and what it may be."""

import json
import tracemalloc
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidEventError, PayloadTooLargeError
from penstock.events.model import Event
from penstock.events.reading import FIELDS, MOST_EVENT_BYTES, Clock, EventReader, elements, lines
from penstock.resources.registry import Registry

READER = EventReader(Registry.load().get("products"))
GOOD: dict[str, Any] = {"product_id": "abc123", "price": 49.99, "stock": 100}


def read(**changed: Any) -> Event:
    return READER.one(json.dumps(GOOD | changed, ensure_ascii=False).encode())


def refusal(body: bytes) -> dict[str, Any]:
    with pytest.raises(InvalidEventError) as refused:
        READER.one(body)
    assert refused.value.message
    return refused.value.details


def test_an_event_is_taken() -> None:
    """Where it does not say when it occurred, it occurred when it was accepted."""
    event = read()
    assert (event.product_id, event.price, event.stock, event.event_id) == ("abc123", Decimal("49.99"), 100, None)
    assert event.occurred_at == event.accepted_at
    assert datetime.now(UTC) - event.accepted_at < timedelta(minutes=1)


def test_what_may_be_absent_may_be_null() -> None:
    """`event_id` and `occurred_at`."""
    event = read(event_id=None, occurred_at=None)
    assert (event.event_id, event.occurred_at) == (None, event.accepted_at)
    given = read(event_id="e-1", occurred_at="2024-01-31T09:30:00.5+02:00")
    assert (given.event_id, given.occurred_at) == ("e-1", datetime(2024, 1, 31, 7, 30, 0, 500_000, UTC))


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("0", "0.00"), ("-0", "0.00"), ("-0.0", "0.00"), ("0.00", "0.00"), ("-0e5", "0.00"), ("1", "1.00"), ("1e2", "100.00"),
        ("1.5", "1.50"), ("49.990", "49.99"), ("0.01", "0.01"), ("1e-2", "0.01"), ("9999999999.99", "9999999999.99"),
        ("1E9", "1000000000.00"),
        ("0." + "0" * 1000, "0.00"), ("123." + "0" * 1000, "123.00"), ("12300000000" + "0" * 20 + "e-21", "1230000000.00"),
        ("1e-0000000000000000000000002", "0.01"), ("0e99999999999999999999999", "0.00"),
    ],
)  # fmt: skip
def test_prices_are_exact(written: str, price: str) -> None:
    """However they are written, they become the digits that the column holds, and zero has no sign."""
    event = READER.one(b'{"product_id": "a", "price": %s, "stock": 1}' % written.encode())
    assert str(event.price) == price


@pytest.mark.parametrize(
    ("field", "written", "problem"),
    [
        *(("price", written, "invalid_format") for written in ("49.999", "0.001", "1e-3", "1e-400", "1e-99999999999999999999999")),
        *(("price", written, "out_of_range") for written in ("-0.01", "-1", "10000000000", "9999999999.995e1", "1e400", "1e9999999999999")),
        *(("price", written, "invalid") for written in ('"49.99"', "true", "[1]", "{}", '""')),
        *(("price", written, "required") for written in ("null",)),
        *(("stock", written, "invalid") for written in ('"1"', "1.0", "1e2", "false", "[]")),
        *(("stock", written, "out_of_range") for written in ("-1", "2147483648", "9007199254740993", "2" * 30, "1" + "0" * 5000)),
        *(("stock", written, "required") for written in ("null",)),
        *(("product_id", written, "invalid") for written in ("1", "true", "[]", '"a\\u0000b"', '"\\ud800"', '"\\u202e"', '"a\u2066"')),
        *(("product_id", written, "required") for written in ("null",)),
        *(("product_id", written, "too_short") for written in ('""',)),
        *(("product_id", written, "too_long") for written in ('"' + "x" * 601 + '"',)),
        *(("event_id", written, "invalid") for written in ("1", "false", '"a\\u0000b"', '"\u2029"'.replace("\u2029", "\u202a"))),
        *(("event_id", written, "too_short") for written in ('""',)),
        *(("event_id", written, "too_long") for written in ('"' + "x" * 201 + '"', '"' + "\u20ac" * 201 + '"')),
        *(
            ("occurred_at", written, "invalid")
            for written in ("1", '""', '"now"', '"2024-01-31"',
                            '"2024-01-31T09:30:00"', '"2024-02-30T09:30:00Z"', '"2024-01-31T09:30:00.1234567Z"',
                            '"0001-01-01T00:00:00+01:00"', '"9999-12-31T23:59:59-01:00"', '"10000-01-01T00:00:00Z"')
        ),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused(field: str, written: str, problem: str) -> None:
    """With the field, the problem and what is allowed."""
    given = {key: json.dumps(value) for key, value in GOOD.items()} | {field: written}
    body = "{" + ", ".join(f'"{key}": {value}' for key, value in given.items()) + "}"
    details = refusal(body.encode())
    assert (details["field"], details["problem"]) == (field, problem)
    assert details["allowed"]


def test_lengths_count_characters() -> None:
    """As an import counts them."""
    assert read(product_id="\u20ac" * 600, event_id="\U0001f600" * 200).product_id == "\u20ac" * 600
    assert read(product_id=" ", event_id=" ").product_id == " "


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"), (b'{"product_id": "a",}', "malformed_json"), (b"{'product_id': 1}", "malformed_json"),
        (b'{"product_id": "a", "price": NaN, "stock": 1}', "malformed_json"), (b'{"price": -Infinity}', "malformed_json"),
        (b'{"product_id": "a", "price": 01, "stock": 1}', "malformed_json"), (b'{"product_id": "a\x01"}', "malformed_json"),
        (b'{"product_id": "a", "price": 1, "stock": 1} {}', "malformed_json"), (b"\xef\xbb\xbf{}", "malformed_json"),
        (b'{"product_id": "\xff", "price": 1, "stock": 1}', "invalid_encoding"), (b'{"product_id": "\xed\xa0\x80"}', "invalid_encoding"),
        (b"[]", "not_an_object"),
        (b"1", "not_an_object"), (b'"a"', "not_an_object"), (b"null", "not_an_object"), (b"[{}]", "not_an_object"),
        (b"[" * 60_000, "nested_too_deep"), (b" " * (MOST_EVENT_BYTES + 1), "record_too_large"),
    ],
)  # fmt: skip
def test_what_is_no_object_is_refused(body: bytes, problem: str) -> None:
    """It has no field."""
    details = refusal(body)
    assert (details["field"], details["problem"]) == (None, problem)


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        (b'{"product_id": "a", "price": 1, "stock": 1, "colour": "red"}', "colour", "unknown"),
        (b'{"product_id": "a", "price": 1, "stock": 1, "Price": 1}', "Price", "unknown"),
        (b'{"product_id": "a", "price": 1, "price": 2, "stock": 1}', "price", "repeated"),
        (b'{"product_id": "a", "pr\\u0069ce": 1, "price": 2, "stock": 1}', "price", "repeated"),
        (b'{"product_id": 5, "product_id": "a", "price": 1, "stock": 1}', "product_id", "repeated"),
        (b'{"event_id": null, "event_id": null, "product_id": "a", "price": 1, "stock": 1}', "event_id", "repeated"),
        (b'{"event_id": null, "product_id": "a", "price": 1, "stock": 1, "stock": 2, "stock": 3}', "stock", "repeated"),
        (b'{"price": 1, "stock": 1}', "product_id", "required"),
        (b'{"product_id": "a", "stock": 1}', "price", "required"),
        (b'{"product_id": "a", "price": 1}', "stock", "required"),
    ],
)
def test_keys_are_known_and_given_once(body: bytes, field: str, problem: str) -> None:
    """Nothing is ignored."""
    details = refusal(body)
    assert (details["field"], details["problem"]) == (field, problem)
    if problem == "unknown":
        assert details["allowed"] == "product_id, price, stock, event_id, occurred_at"


# Written by hand below and read by the plainest means there are.
_TEXTS = st.sampled_from(
    ['"a"', '""', '"a\\"b"', '"\\u0061"', '"\\u0000"', '"\u202e"', '"\u00e9"', '"2024-01-31T09:30:00Z"', '"2024"', '"5"']
)
_NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "-0", "-0.0", "1", "1.5", "1.50", "1.505", "1e2", "1e10", "2147483647", "2147483648", "9999999999.99", "-1", "1e400"]
    ),
    st.decimals(min_value=-1, max_value=10**11, places=3).map(str),
)
_VALUES = st.one_of(_TEXTS, _NUMBERS, st.sampled_from(["null", "true", "[]", "{}", '["\\""]']))
_PAIRS = st.tuples(st.sampled_from(["product_id", "price", "stock", "event_id", "occurred_at", "pr\\u0069ce", "other"]), _VALUES)
_LIKELY = st.tuples(
    st.tuples(st.just("product_id"), _TEXTS), st.tuples(st.just("price"), _NUMBERS), st.tuples(st.just("stock"), _NUMBERS)
).map(list)  # fmt: skip


def expected(body: str) -> tuple[str, Decimal, int, str | None, datetime | None] | None:
    """The event without its moment of acceptance, or None: by the standard library alone."""
    pairs = json.loads(body, object_pairs_hook=list, parse_float=Decimal)
    values: defaultdict[str, Any] = defaultdict(lambda: None, pairs)
    product_id, price, stock, event_id, occurred_at = (values[name] for name in FIELDS)
    if len(dict(pairs)) < len(pairs) or not values.keys() <= set(FIELDS):
        return None
    if not (type(product_id) is str and product_id.strip("\0\u202e") == product_id != "" and type(stock) is int and 0 <= stock < 2**31):
        return None
    if type(price) not in (int, Decimal) or not 0 <= price < 10**10 or (Decimal(price) * 100) % 1:
        return None
    if not (event_id is None or (type(event_id) is str and event_id.strip("\0\u202e") == event_id != "")):
        return None
    if occurred_at not in (None, "2024-01-31T09:30:00Z"):
        return None
    moment = None if occurred_at is None else datetime(2024, 1, 31, 9, 30, tzinfo=UTC)
    return product_id, Decimal(price), stock, event_id, moment


@given(st.one_of(st.lists(_PAIRS, max_size=6), st.tuples(_LIKELY, st.lists(_PAIRS, max_size=3)).map(lambda parts: parts[0] + parts[1])))
def test_both_roads_find_what_a_plain_reading_finds(pairs: list[tuple[str, str]]) -> None:
    """The short road decides nearly all, the long one the rest; a reader of ten lines agrees with both."""
    body = "{" + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}"
    wanted = expected(body)
    if wanted is None:
        refusal(body.encode())
        return
    event = READER.one(body.encode())
    assert (event.product_id, event.price, event.stock, event.event_id) == wanted[:4]
    assert event.occurred_at == (wanted[4] or event.accepted_at)
    assert event.price.as_tuple().exponent == -2


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_refused(body: bytes) -> None:
    """Nothing else is raised."""
    refusal(body)


_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=_ZONES))  # noqa: DTZ001 - zones are added
def test_moments_are_those_that_were_written(moment: datetime) -> None:
    """In UTC, to the microsecond."""
    event = read(occurred_at=moment.isoformat())
    assert event.occurred_at == moment
    assert event.occurred_at.utcoffset() == timedelta(0)


def test_each_event_is_accepted_later_than_the_one_before() -> None:
    """However fast they come."""
    clock = Clock()
    moments = [clock.now() for _ in range(2000)]
    assert all(one < other for one, other in pairwise(moments))


def test_elements_are_read_one_by_one() -> None:
    """A wrong one spoils only itself; what is no array is refused."""
    assert elements(b' [1, {"a": [2, "]"]}, "x"] ', 3) == [b"1", b'{"a": [2, "]"]}', b'"x"']
    assert elements(b"[]", 3) == []
    for body in (b"", b"{}", b"[1", b"[1,]", b"[1] 2", b"null", b"\xff", b"[" * 60_000):
        with pytest.raises(InvalidEventError, match="must be a JSON array"):
            elements(body, 3)


def test_lines_keep_their_numbers() -> None:
    """Empty ones are passed over."""
    assert lines(b'{"a": 1}\r\n\n \t\n[]\n', 3) == [(1, b'{"a": 1}'), (4, b"[]")]
    assert lines(b"\n\n", 3) == []


def test_batches_are_bounded() -> None:
    """By their events, however they are written; commas inside of texts are none between events."""
    for count in (4, 10_000):
        with pytest.raises(PayloadTooLargeError, match="3 events"):
            elements(b"[0" + b",0" * (count - 1) + b"]", 3)
        with pytest.raises(PayloadTooLargeError, match="3 events"):
            lines(b"0\n" * count, 3)
    with pytest.raises(PayloadTooLargeError, match="3 events"):
        lines(b"\n" * 7, 3)
    written = b'"' + b',\\"' * 100 + b'"'
    assert elements(b"[%b,%b]" % (written, written), 3) == [written, written]


def test_a_batch_that_is_made_to_cost_much_is_refused() -> None:
    """Each of these was slower by the square of its length, or made millions of objects."""
    never_closed = b'["' + b'\\"' * 1_000_000 + b"," * 100_001
    with pytest.raises(InvalidEventError, match="must be a JSON array"):
        elements(never_closed, 10_000)
    for element in (b'""', b'"\\\\"', b"0"):
        with pytest.raises(PayloadTooLargeError, match="10000 events"):
            elements(b"[" + (element + b",") * 1_000_000 + element + b"]", 10_000)


def test_nothing_is_made_of_an_event_that_is_too_large() -> None:
    """Its length is looked at first."""
    body = b'{"product_id": [%b[]]}' % (b"[]," * 500_000)
    tracemalloc.start()
    try:
        assert refusal(body) is not None
        assert tracemalloc.get_traced_memory()[1] < len(body) // 2
    finally:
        tracemalloc.stop()
