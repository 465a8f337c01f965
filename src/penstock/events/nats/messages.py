"""Events as the bodies of messages: JSON with a version, exact decimals as text, times as RFC 3339."""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from penstock.events.model import Event, Unreadable

_VERSION: Final = 1
_LARGEST_PRICE = Decimal(10) ** 10  # as the tables have it: numeric(12, 2)
_LARGEST_STOCK = 2**31


class _Message(msgspec.Struct, gc=False):
    v: int
    event: Event


class _Versioned(msgspec.Struct, gc=False):
    v: int


_encode = msgspec.json.Encoder(decimal_format="string").encode
_decode = msgspec.json.Decoder(_Message).decode
_decode_version = msgspec.json.Decoder(_Versioned).decode


def packed(event: Event) -> bytes:
    return _encode(_Message(_VERSION, event))


def unpacked(body: bytes) -> Event | Unreadable:
    """What nobody could keep in the tables is unreadable too: the stream takes messages from whoever may publish there."""
    try:
        message = _decode(body)
    except msgspec.DecodeError as error:
        return Unreadable(body, _unknown_version(body) or f"no event: {error}")
    fault = _unknown_version(body) if message.v != _VERSION else _fault(message.event)
    return Unreadable(body, fault) if fault else message.event


def _unknown_version(body: bytes) -> str | None:
    try:
        version = _decode_version(body).v
    except msgspec.DecodeError:
        return None
    return None if version == _VERSION else f"no event: its version is {version}, and this Penstock reads {_VERSION}"


def _fault(event: Event) -> str | None:
    price = event.price
    if not price.is_finite() or abs(price) >= _LARGEST_PRICE or price != price.quantize(Decimal("0.01")):
        return "no event: price is not within 10 digits and 2 decimals"
    if not -_LARGEST_STOCK <= event.stock < _LARGEST_STOCK:
        return "no event: stock is out of range"
    if "\0" in event.product_id or "\0" in (event.event_id or ""):
        return "no event: it holds a NUL character"
    if _zoneless(event.occurred_at) or _zoneless(event.accepted_at):
        return "no event: a time has no zone"
    return None


def _zoneless(moment: datetime) -> bool:
    return moment.tzinfo is None
