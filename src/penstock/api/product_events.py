"""The routes that take product events."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta
from multipart import parse_options_header

from penstock.api.bodies import Room, check_json, whole
from penstock.api.event_batches import MOST_BATCH_BYTES, MOST_EVENTS, accept_many
from penstock.api.event_door import PATH, accept_one
from penstock.api.problems import problems
from penstock.api.product_events_document import NDJSON, EventBatchOperation, EventOperation
from penstock.api.services import AnyRequest, services
from penstock.errors import (
    BodyTimeoutError,
    CircuitOpenError,
    EventLogUnavailableError,
    HandedOverError,
    IncompleteBodyError,
    InvalidEventError,
    InvalidOptionError,
    PayloadTooLargeError,
    QueueFullError,
    UnsupportedMediaTypeError,
)
from penstock.events.reading import MOST_EVENT_BYTES
from penstock.intake.media import JSON, RAW_TYPES

_LINES = [kind for kind, name in RAW_TYPES.items() if name == RAW_TYPES[NDJSON]]
_MOST_AT_ONCE = 2 * MOST_BATCH_BYTES  # of all batches together; as events they take a few times as much
_BATCH_SECONDS = 60.0  # in all: who sends a byte now and then would else keep the room from others for an hour
_room = Room(_MOST_AT_ONCE)
_ERRORS = problems(
    InvalidEventError,
    InvalidOptionError,
    UnsupportedMediaTypeError,
    PayloadTooLargeError,
    IncompleteBodyError,
    BodyTimeoutError,
    QueueFullError,
    CircuitOpenError,
    EventLogUnavailableError,
    HandedOverError,
)


class EventStatus(StrEnum):
    """What became of an event that was sent: it is durable; it was before, by its event_id; it is no event; there was no room."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    NOT_STORED = "not_stored"


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The event is stored, or was already."""

    status: Annotated[str, Meta(pattern="^(accepted|duplicate)$")]
    event_id: Annotated[str | None, Meta(description="The one that it was sent with.")]


class EventFault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with an event."""

    code: str
    message: str
    details: Annotated[dict[str, Any], Meta(description="`field`, `problem`, and what is `allowed`.")]


class EventResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event of a batch."""

    index: Annotated[int, Meta(ge=0, description="Its place among the events of the batch, from 0.")]
    status: EventStatus
    event_id: str | None
    line: Annotated[int | msgspec.UnsetType, Meta(description="NDJSON: the number of its line, from 1.")] = msgspec.UNSET
    error: EventFault | msgspec.UnsetType = msgspec.UNSET


class EventBatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch. Those that were not stored may be sent again as they are."""

    accepted: int
    duplicates: int
    rejected: int
    not_stored: int
    results: list[EventResult]


@post(
    PATH.removeprefix("/v1"),
    operation_id="send_event",
    tags=["product events"],
    summary="Tell a product's price and stock",
    description="Answered once the event is durable; it is applied to the product a moment later. Of all events of a product the one that "
    f"occurred last counts, in whatever order they come. An event may have {MOST_EVENT_BYTES // 1024} KiB. After a `503` or a broken "
    "connection send it again: with an `event_id` it is applied once, and without one the newest still counts.",
    status_code=202,
    responses={202: ResponseSpec(EventAnswer, generate_examples=False, description="The event is durable."), **_ERRORS},
    operation_class=EventOperation,
)
async def send_event(request: AnyRequest) -> Response[bytes]:
    """The road of requests that the door does not take."""
    here = services(request)
    try:
        check_json(request.headers.get("content-type"), request.headers.get("content-encoding"))
        answer = await accept_one(here.application.events, here.tally, await whole(request, MOST_EVENT_BYTES))
    except Exception as error:
        here.tally.refuse(error)
        raise
    return Response(answer, status_code=202, media_type=JSON)


@post(
    PATH.removeprefix("/v1") + "/batch",
    operation_id="send_events",
    tags=["product events"],
    summary="Tell many at once",
    description=f"A JSON array, or one event per line; at most {MOST_EVENTS} and {MOST_BATCH_BYTES // 1024**2} MiB. Each is answered for "
    "itself, and one that is wrong holds up no other. Answered once all are durable that are `accepted`. Where none of them is valid, the "
    "answer is a `400` with the results in its `details`; where there was no room for any, a `503`.",
    status_code=202,
    responses={202: ResponseSpec(EventBatchAnswer, generate_examples=False, description="What became of each."), **_ERRORS},
    operation_class=EventBatchOperation,
    request_max_body_size=None,  # it has limits of its own
)
async def send_events(request: AnyRequest) -> Response[bytes]:
    here = services(request)
    try:
        ndjson = _is_lines(request.headers.get("content-type"), request.headers.get("content-encoding"))
        seconds = min(_BATCH_SECONDS, here.application.settings.upload_total_seconds)
        with _room.hold() as take:
            body = await whole(request, MOST_BATCH_BYTES, total_seconds=seconds, take=take)
            answer = await accept_many(here.application.events, here.tally, body, ndjson=ndjson)
    except Exception as error:
        here.tally.refuse(error)
        raise
    return Response(answer, status_code=202, media_type=JSON)


def _is_lines(content_type: str | None, content_encoding: str | None) -> bool:
    """Raises UnsupportedMediaTypeError for what is neither lines nor an array, or compressed."""
    kind = parse_options_header(content_type or "")[0]
    encoding = (content_encoding or "").strip().lower()
    if kind in _LINES and encoding in ("", "identity"):
        return True
    if kind != JSON or encoding not in ("", "identity"):
        raise UnsupportedMediaTypeError(
            f"Content-Type must be {JSON} or {NDJSON} here, without a Content-Encoding.", allowed=[JSON, *_LINES]
        )
    return False


ROUTES = [send_event, send_events]
