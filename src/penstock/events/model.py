"""What an event is, on its way from the sender to the products."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NewType
from uuid import UUID

import msgspec

DeadLetterId = NewType("DeadLetterId", UUID)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The price and stock that a product has had since a moment; checked (`penstock.events.reading`).

    Of all events of a product the greatest by (occurred_at, price, stock) is its state, whatever their order and however often they come.
    """

    product_id: str
    price: Decimal
    stock: int
    occurred_at: datetime  # aware; where the sender gave none, the moment of its acceptance
    accepted_at: datetime  # aware
    event_id: str | None = None  # the sender's own: applied once


class Outcome(StrEnum):
    """What a log has done with an event that it was given."""

    ACCEPTED = "accepted"  # durable
    DUPLICATE = "duplicate"  # an event with this event_id is durable or applied already; nothing was stored
    FULL = "full"  # not stored: the log holds QUEUE_SIZE events


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a log held that is no event."""

    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as a log delivers it."""

    content: Event | Unreadable
    attempts: int  # earlier ones that failed


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver the entry again, with one more attempt, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Settled:
    """The log may forget the entry: it is applied, was known or surpassed already, or is among the dead letters."""


Verdict = Settled | Retry
SETTLED = Settled()


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events that are accepted and not settled."""

    waiting: int
    oldest: datetime | None  # when the oldest of them was accepted; None where none waits
