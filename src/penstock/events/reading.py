"""Product events from JSON, by the rules of the products' own fields: what does not fit is refused by name, and nothing is rounded.

Nearly every event takes the short road: one decoding, and checks that may say no too often, never too seldom. What it does not let through
is looked at again, exactly, and either taken or told what is wrong with it.
"""

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Never

import msgspec

from penstock.errors import InvalidEventError, PayloadTooLargeError
from penstock.events.model import Event
from penstock.resources.checks.cells import FORBIDDEN, FORBIDDEN_HINT, bounds
from penstock.resources.datetimes import moment_of
from penstock.resources.model import Resource
from penstock.resources.numbers import exact_decimal
from penstock.resources.problems import Kind

FIELDS = ("product_id", "price", "stock", "event_id", "occurred_at")
MOST_EVENT_BYTES = 64 * 1024
MOST_EVENT_ID = 200  # characters
REPEATED, UNKNOWN = "repeated", "unknown"  # problems of a key; those of values are `Kind`s

_TICK = timedelta(microseconds=1)
_QUOTES, _QUOTES_OF_ONE = 8, 4  # of three keys and a text; of a key and a text
_MOST_COMMAS = 10  # outside of texts, for each event: five fields need four, and one more behind it
_MOST_QUOTES = 20  # that end or begin a text, for each event: five keys and three texts have 16
# Possessive, and to the end where a text has none: else each quote of a body that is made for it is tried again to the end.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_DIGITS = 20  # of a whole number; longer ones are out of every range, and Python takes long to read them
_AT_BYTE = re.compile(r"byte [0-9]+")  # where the decoder could not go on
_forbidden = re.compile(FORBIDDEN).search


class _Wire(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    product_id: Any
    price: Any
    stock: Any
    event_id: Any = msgspec.UNSET
    occurred_at: Any = msgspec.UNSET


_decode = msgspec.json.Decoder(_Wire, float_hook=Decimal).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNDECODED = (msgspec.DecodeError, UnicodeError, InvalidOperation, RecursionError)


class Clock:
    """The time, each later than the one before by a microsecond at least, also where the machine's clock is set back. For many threads."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            now = datetime.now(UTC)
            if now <= self._last:
                now = self._last + _TICK
            self._last = now
        return now


class EventReader:
    """`products` gives the limits of ids, prices and stocks. May be used by several threads."""

    def __init__(self, products: Resource) -> None:
        key, price, stock = (products.by_name[name] for name in (products.primary_key, "price", "stock"))
        self._shortest, self._longest = max(key.min_length or 0, 1), key.max_length or MOST_EVENT_BYTES
        self._precision, self._scale = price.precision or 38, price.scale
        self._cheapest, self._dearest = bounds(price)
        self._unit = Decimal(1).scaleb(-self._scale)
        self._least, self._most = (int(bound) for bound in bounds(stock))
        self._clock = Clock()

    def one(self, body: bytes) -> Event:
        """The event that a JSON object of at most MOST_EVENT_BYTES is. Raises InvalidEventError, whose `details` name the field."""
        if len(body) <= MOST_EVENT_BYTES:  # before anything is made of it
            try:
                if (event := self._taken(body, _decode(body))) is not None:
                    return event
            except _UNDECODED:
                pass
        return self._settled(body)

    def _taken(self, body: bytes, wire: _Wire) -> Event | None:
        """None where it takes another look. Without a backslash each text has two quotes: a key given twice shows in their number."""
        now, quotes = self._clock.now(), _QUOTES
        product_id, stock, event_id, moment = wire.product_id, wire.stock, wire.event_id, wire.occurred_at
        if named := event_id is not msgspec.UNSET:
            quotes += _QUOTES_OF_ONE
        if moment is msgspec.UNSET:
            moment = now
        else:
            quotes += _QUOTES_OF_ONE
            moment = moment_of(moment) if type(moment) is str else None
        price = self._exact(wire.price)
        if (
            price is not None
            and type(moment) is datetime
            and type(stock) is int
            and self._least <= stock <= self._most
            and type(product_id) is str
            and self._shortest <= len(product_id) <= self._longest
            and (not named or (type(event_id) is str and 0 < len(event_id) <= MOST_EVENT_ID))
            and b"\\" not in body
            and body.count(b'"') == quotes
            and (body.isascii() or not (_forbidden(product_id) or (named and _forbidden(event_id))))
        ):
            known_as = event_id if named else None
            return Event(product_id=product_id, price=price, stock=stock, occurred_at=moment, accepted_at=now, event_id=known_as)
        return None

    def _exact(self, price: Any) -> Decimal | None:
        """With as many digits after the point as the column has; None where that would round, or it does not fit."""
        if type(price) is int:
            price = Decimal(price)
        if type(price) is not Decimal or not self._cheapest <= price <= self._dearest:
            return None
        exact = price.quantize(self._unit)
        return None if exact != price else exact or abs(exact)  # zero has a sign too, which no price has

    def _settled(self, body: bytes) -> Event:
        """The same without haste, or what is wrong."""
        if len(body) > MOST_EVENT_BYTES:
            _refuse(None, Kind.RECORD_TOO_LARGE, f"at most {MOST_EVENT_BYTES} bytes", f"An event may have {MOST_EVENT_BYTES} bytes.")
        given = _pairs(body)
        _check_keys([key for key, _ in given])
        values = dict(given)
        product_id = _text("product_id", values, self._shortest, self._longest)
        if product_id is None:
            _refuse("product_id", Kind.REQUIRED, f"a text of {self._shortest} to {self._longest} characters")
        price, stock = self._price(values.get("price")), self._stock(values.get("stock"))
        event_id = _text("event_id", values, 1, MOST_EVENT_ID)
        occurred_at = _moment(values.get("occurred_at"))
        now = self._clock.now()
        return Event(product_id=product_id, price=price, stock=stock, event_id=event_id, occurred_at=occurred_at or now, accepted_at=now)

    def _price(self, value: Any) -> Decimal:
        allowed = (
            f"a number from {self._cheapest:f} to {self._dearest:f} with at most {self._scale} digits after the decimal point; "
            "nothing is rounded"
        )
        if type(value) is not _Number:
            _refuse("price", Kind.REQUIRED if value is None else Kind.INVALID, allowed)
        number = exact_decimal(value, self._precision, self._scale)
        if isinstance(number, Kind):
            _refuse("price", number, allowed)
        if (exact := self._exact(number)) is None:
            _refuse("price", Kind.OUT_OF_RANGE, allowed)
        return exact

    def _stock(self, value: Any) -> int:
        allowed = f"a whole number from {self._least} to {self._most}"
        if type(value) is not _Number or not value.removeprefix("-").isdigit():
            _refuse("stock", Kind.REQUIRED if value is None else Kind.INVALID, allowed)
        if len(value) > _DIGITS or not self._least <= (number := int(value)) <= self._most:
            _refuse("stock", Kind.OUT_OF_RANGE, allowed)
        return number


def elements(body: bytes, most: int) -> list[bytes]:
    """The elements of a JSON array, each to be read for itself.

    Raises InvalidEventError for what is no array, or no JSON; PayloadTooLargeError for more than `most`.
    """
    # Counted beforehand: an array of millions of zeros would become millions of objects.
    if body.count(b",") > most * _MOST_COMMAS and (
        body.count(b'"') - body.count(b'\\"') > most * _MOST_QUOTES or _TEXT.sub(b"", body).count(b",") > most * _MOST_COMMAS
    ):
        raise _too_many(most)
    try:
        found = _elements(body)
    except _UNDECODED as error:
        place = _AT_BYTE.search(str(error))
        at = f" (broken at {place[0]})" if place else ""
        _refuse(None, Kind.INVALID, "a JSON array of events", f"The body must be a JSON array of events{at}. In NDJSON each stands alone.")
    if len(found) > most:
        raise _too_many(most)
    return [bytes(element) for element in found]


def lines(body: bytes, most: int) -> list[tuple[int, bytes]]:
    """The lines of NDJSON that hold anything, with their numbers from 1.

    Raises PayloadTooLargeError for more than `most`, and as many empty ones.
    """
    if body.count(b"\n") > 2 * most:
        raise _too_many(most)
    stripped = ((number, line.strip(b" \t\r")) for number, line in enumerate(body.split(b"\n"), 1))
    found = [(number, line) for number, line in stripped if line]
    if len(found) > most:
        raise _too_many(most)
    return found


def _too_many(most: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"A batch may have {most} events. Send the rest in further ones.", limit_events=most)


class _Number(str):
    """A number's digits as they were written."""

    __slots__ = ()


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    """The keys of a JSON object with their values, numbers as `_Number`."""
    told = "The event is not valid JSON."
    try:
        value = json.loads(body.decode(), object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        _refuse(None, Kind.INVALID_ENCODING, "UTF-8", "The event is not valid UTF-8.")
    except json.JSONDecodeError as error:
        _refuse(None, Kind.MALFORMED_JSON, "a JSON object", f"{told[:-1]}: {error.msg.strip(': ')}, at character {error.pos + 1}.")
    except RecursionError:
        _refuse(None, Kind.NESTED_TOO_DEEP, "a JSON object without further ones inside", told)
    if not isinstance(value, _Pairs):
        _refuse(None, Kind.NOT_AN_OBJECT, "a JSON object", "An event must be a JSON object.")
    return value


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every key that it was given."""


def _refuse_constant(_name: str) -> Never:
    _refuse(None, Kind.MALFORMED_JSON, "a JSON object", "The event is not valid JSON: it knows no NaN and no infinity.")


def _check_keys(keys: list[str]) -> None:
    known = ", ".join(FIELDS)
    for key in keys:
        if key not in FIELDS:
            shown = key[:100].encode("utf-8", "replace").decode()
            _refuse(shown, UNKNOWN, known, f"An event has no field {shown!r}; there are {known}.")
        if keys.count(key) > 1:
            _refuse(key, REPEATED, "given once", f"{key} is given more than once.")


def _text(field: str, values: dict[str, Any], shortest: int, longest: int) -> str | None:
    value, allowed = values.get(field), f"a text of {shortest} to {longest} characters"
    if value is None:
        return None
    if type(value) is not str:
        _refuse(field, Kind.INVALID, allowed)
    if not shortest <= len(value) <= longest:
        _refuse(field, Kind.TOO_LONG if value else Kind.TOO_SHORT, allowed)
    if _forbidden(value) or not _is_encodable(value):
        _refuse(field, Kind.INVALID, FORBIDDEN_HINT)
    return value


def _is_encodable(text: str) -> bool:
    """Halves of surrogate pairs have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    moment = moment_of(value) if type(value) is str else moment_of("")
    if isinstance(moment, str):
        _refuse("occurred_at", Kind.INVALID, moment)
    return moment


def _refuse(field: str | None, problem: str, allowed: str, message: str | None = None) -> Never:
    raise InvalidEventError(message or f"{field} must be {allowed}.", field=field, problem=str(problem), allowed=allowed)
