"""What requests with product events look like, for the OpenAPI document: handlers of streamed bodies do not say it themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from penstock.events.reading import MOST_EVENT_ID
from penstock.intake.media import JSON

NDJSON = "application/x-ndjson"
_TEXT, _NOTHING = OpenAPIType.STRING, OpenAPIType.NULL
_EXAMPLE = {"product_id": "abc123", "price": 49.99, "stock": 100}
_WHOLE_EXAMPLE = {**_EXAMPLE, "event_id": "order-4711", "occurred_at": "2026-03-02T09:30:00Z"}
_EVENT = Schema(
    type=OpenAPIType.OBJECT,
    properties={
        "product_id": Schema(type=_TEXT, min_length=1, max_length=600),
        "price": Schema(
            type=OpenAPIType.NUMBER, minimum=0, maximum=9999999999.99, description="At most two digits after the decimal point."
        ),
        "stock": Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=2**31 - 1, description="A whole number, written as one."),
        "event_id": Schema(
            type=[_TEXT, _NOTHING],
            min_length=1,
            max_length=MOST_EVENT_ID,
            description="The sender's own. Of all events with this id one is applied, however often it is sent.",
        ),
        "occurred_at": Schema(
            type=[_TEXT, _NOTHING],
            format=OpenAPIFormat.DATE_TIME,
            description="Since when the product has had this price and stock. Not given: since the event was accepted.",
        ),
    },
    required=["product_id", "price", "stock"],
    additional_properties=False,
)


@dataclass
class EventOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = RequestBody(content={JSON: OpenAPIMediaType(schema=_EVENT, example=_WHOLE_EXAMPLE)}, required=True)


@dataclass
class EventBatchOperation(Operation):
    def __post_init__(self) -> None:
        # Anything may stand there, in the sense of a request that is refused: what is no event is told so, and the others are stored.
        item = Schema(description="An event, as `POST /v1/events` takes it.", examples=[_EXAMPLE])
        array = OpenAPIMediaType(schema=Schema(type=OpenAPIType.ARRAY, items=item, min_items=1), example=[_EXAMPLE, _WHOLE_EXAMPLE])
        lines = OpenAPIMediaType(schema=Schema(type=_TEXT, description="One event per line."))
        self.request_body = RequestBody(content={JSON: array, NDJSON: lines}, required=True)
