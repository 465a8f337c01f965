"""POST /v1/events by the short road: of all requests these are the most, and Litestar would cost each several times what storing it does.

It takes what is sent to the plain address and no more; a query string, say, goes the long road, whose handler calls `accept_one` as well.
"""

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from litestar.types import HTTPScope, Message, Receive, Send

from penstock.api.bodies import check_json
from penstock.api.conventions import Completed
from penstock.api.patience import Patience
from penstock.api.problems import ADDRESS, HEADERS, MEDIA_TYPE, REQUEST_ID, answered
from penstock.api.tally import Tally
from penstock.errors import BodyTimeoutError, IncompleteBodyError, QueueFullError
from penstock.events.model import Outcome
from penstock.events.reading import MOST_EVENT_BYTES
from penstock.events.service import Events
from penstock.intake.bodies import too_large

PATH = "/v1/events"
_ACCEPTED, _LAST = 202, {"type": "http.response.body", "more_body": False}
_JSON = b"application/json"
_NO_MORE: dict[str, str] = {}
_PLAIN_ANSWERS = {outcome: b'{"status":"%b","event_id":null}' % outcome.encode() for outcome in Outcome}


def full() -> QueueFullError:
    return QueueFullError("As many events wait to be applied as may wait (QUEUE_SIZE). Nothing was stored: send it again in a moment.")


async def accept_one(events: Events, tally: Tally, body: bytes) -> bytes:
    """The answer, once the event is durable. Raises InvalidEventError, QueueFullError, and what `EventLog.append` raises."""
    event = events.reader.one(body)
    (outcome,) = await events.accept([event])
    if outcome is Outcome.FULL:
        raise full()
    tally.accepted += outcome is Outcome.ACCEPTED
    if event.event_id is None:
        return _PLAIN_ANSWERS[outcome]
    return b'{"status":"%b","event_id":%b}' % (outcome.encode(), msgspec.json.encode(event.event_id))


class EventDoor:
    """An ASGI application inside the conventions. What goes wrong is answered as Litestar's exception handler does."""

    def __init__(self, events: Events, tally: Tally, *, idle_seconds: float) -> None:
        self._events = events
        self._tally = tally
        self._seconds = idle_seconds
        self._patience = Patience(self._seconds)

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        state: dict[str, Any] = scope["state"]
        status, kind, more = _ACCEPTED, _JSON, _NO_MORE
        try:
            body = await accept_one(self._events, self._tally, await self._body(state[HEADERS], receive))
        except Exception as error:  # noqa: BLE001 - told and logged there, whatever it is
            self._tally.refuse(error)
            status, body, more = answered(error, state[ADDRESS], state[REQUEST_ID])
            kind = MEDIA_TYPE.encode()
        await send(cast("Message", {"type": "http.response.start", "status": status, "headers": _headers(kind, body, more)}))
        await send(cast("Message", {**_LAST, "body": body}))

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Raises UnsupportedMediaTypeError, PayloadTooLargeError, BodyTimeoutError, IncompleteBodyError."""
        if headers.get(b"content-type") != _JSON or b"content-encoding" in headers:
            check_json(*(None if (value := headers.get(name)) is None else value.decode("latin-1") for name in _TOLD))
        length = headers.get(b"content-length", b"")
        announced = int(length) if length.isdigit() else None
        if announced is not None and announced > MOST_EVENT_BYTES:
            raise too_large(MOST_EVENT_BYTES)
        try:
            body = await self._patience.wait(_received(receive))
        except TimeoutError:
            raise BodyTimeoutError(f"The body was not whole within {self._seconds:g} s. Send it again.") from None
        if announced is not None and len(body) < announced:
            raise _incomplete()
        return body


_TOLD = (b"content-type", b"content-encoding")


async def _received(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _incomplete()
        body, more = body + message["body"] if body else message["body"], message["more_body"]
        if len(body) > MOST_EVENT_BYTES:
            raise too_large(MOST_EVENT_BYTES)
    return body


def _incomplete() -> IncompleteBodyError:
    return IncompleteBodyError("The connection ended before the body was whole. Send it again.")


def _headers(kind: bytes, body: bytes, more: Mapping[str, str]) -> Completed:
    length = len(body)
    if not more and kind is _JSON and (known := _KNOWN.get(length)) is not None:
        return known
    given = [(name.lower().encode(), value.encode()) for name, value in more.items()]
    return Completed.of([(b"content-type", kind), (b"content-length", b"%d" % length), *given])


_KNOWN = {length: Completed.of([(b"content-type", _JSON), (b"content-length", b"%d" % length)]) for length in range(300)}
