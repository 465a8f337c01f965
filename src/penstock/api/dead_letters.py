"""The routes of dead letters: events that could not be applied."""

import asyncio
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from penstock.api.bodies import refuse_body
from penstock.api.parameters import PER_PAGE, Cursor, Limit, decoded_cursor, encoded_cursor, uuid_of
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, services
from penstock.api.views import Next
from penstock.errors import (
    CircuitOpenError,
    DeadLetterNotFoundError,
    EventLogUnavailableError,
    HandedOverError,
    InvalidIdError,
    InvalidOptionError,
    InvalidStateError,
    QueueFullError,
    UsageError,
)
from penstock.events.dead_letters import DeadLetter
from penstock.events.model import DeadLetterId, Outcome
from penstock.events.patience import INVALID_EVENT, REFUSED_BY_DATABASE, RETRIES_EXHAUSTED
from penstock.intake.media import JSON

_PATH = "/dead-letters/{dead_letter_id:str}"
_LONGEST_ID = 600
_OF_LIST = problems(UsageError, InvalidOptionError)
_OF_ONE = problems(InvalidOptionError, InvalidIdError, DeadLetterNotFoundError)
_OF_LOG = (QueueFullError, CircuitOpenError, EventLogUnavailableError, HandedOverError)
_encoded = msgspec.json.Encoder(decimal_format="number").encode


class DeadLetterCode(StrEnum):
    """Why an event could not be applied."""

    INVALID_EVENT = INVALID_EVENT
    REFUSED_BY_DATABASE = REFUSED_BY_DATABASE
    RETRIES_EXHAUSTED = RETRIES_EXHAUSTED


class DeadLetterList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters, the newest first."""

    items: list[DeadLetter]
    next: Next


class ReplayedOne(msgspec.Struct, frozen=True, kw_only=True):
    """The event is in the log again, and no dead letter any more. If its event_id was applied meanwhile, it will change nothing."""

    status: Annotated[str, msgspec.Meta(pattern="^accepted$")]


class ReplayedAll(msgspec.Struct, frozen=True, kw_only=True):
    """How many went."""

    replayed: int


OfProduct = Annotated[
    str | None, QueryParameter(description="Only events of this product.", required=False, min_length=1, max_length=_LONGEST_ID)
]
OfCode = Annotated[DeadLetterCode | None, QueryParameter(description="Only those that died of this.", required=False)]
IdPath = Annotated[str, PathParameter(description="The dead letter's id.", schema_extra={"format": "uuid"})]


@get(
    "/dead-letters",
    operation_id="list_dead_letters",
    tags=["dead letters"],
    summary="Events that could not be applied, the newest first",
    responses={200: ResponseSpec(DeadLetterList, generate_examples=False, description="A page of them."), **_OF_LIST},
    sync_to_thread=True,
)
def list_dead_letters(
    request: AnyRequest, product_id: OfProduct = None, code: OfCode = None, limit: Limit = PER_PAGE, cursor: Cursor = None
) -> Response[bytes]:
    letters, following = services(request).application.events.dead_letters.page(
        limit=limit, cursor=decoded_cursor(cursor), product_id=_product(product_id), code=code
    )
    return _answer(DeadLetterList(items=letters, next=encoded_cursor(following)))


@get(
    _PATH,
    operation_id="get_dead_letter",
    tags=["dead letters"],
    summary="A dead letter",
    responses={
        200: ResponseSpec(DeadLetter, generate_examples=False, description="The event, and why it could not be applied."),
        **_OF_ONE,
    },
    sync_to_thread=True,
)
def get_dead_letter(request: AnyRequest, dead_letter_id: IdPath) -> Response[bytes]:
    return _answer(services(request).application.events.dead_letters.get(_id(dead_letter_id)))


@post(
    f"{_PATH}/replay",
    operation_id="replay_dead_letter",
    tags=["dead letters"],
    summary="Send a dead letter into the log again",
    description="Once what it died of is mended. Where it fails again it comes back as another dead letter. What is no event (`raw`) can "
    "only be discarded.",
    status_code=202,
    responses={
        202: ResponseSpec(ReplayedOne, generate_examples=False, description="The event is durable in the log."),
        **problems(InvalidOptionError, InvalidIdError, DeadLetterNotFoundError, InvalidStateError, *_OF_LOG),
    },
)
async def replay_dead_letter(request: AnyRequest, dead_letter_id: IdPath) -> Response[bytes]:
    refuse_body(request)
    outcome: Outcome = await services(request).application.events.dead_letters.replay(_id(dead_letter_id))
    return _answer(ReplayedOne(status=outcome.value), status=202)


@post(
    "/dead-letters/replay",
    operation_id="replay_dead_letters",
    tags=["dead letters"],
    summary="Send all of them into the log again",
    description="Those that are there when it begins, the oldest first, or only those that the parameters say. When the log is full it "
    "stops with a `503`, whose `details` say in `replayed` how many went.",
    status_code=202,
    responses={
        202: ResponseSpec(ReplayedAll, generate_examples=False, description="All of them are in the log."),
        **problems(UsageError, InvalidOptionError, *_OF_LOG),
    },
)
async def replay_dead_letters(request: AnyRequest, product_id: OfProduct = None, code: OfCode = None) -> Response[bytes]:
    refuse_body(request)
    letters = services(request).application.events.dead_letters
    return _answer(ReplayedAll(replayed=await letters.replay_all(product_id=_product(product_id), code=code)), status=202)


@delete(
    _PATH,
    operation_id="discard_dead_letter",
    tags=["dead letters"],
    summary="Forget a dead letter",
    responses=_OF_ONE,
)
async def discard_dead_letter(request: AnyRequest, dead_letter_id: IdPath) -> None:
    await asyncio.to_thread(services(request).application.events.dead_letters.discard, _id(dead_letter_id))


def _id(text: str) -> DeadLetterId:
    return DeadLetterId(UUID(uuid_of(text, "a dead letter")))


def _product(product_id: str | None) -> str | None:
    if product_id is not None and "\0" in product_id:
        raise InvalidOptionError("product_id: no product's id has a NUL.", parameter="product_id")
    return product_id


def _answer(view: msgspec.Struct, *, status: int = 200) -> Response[bytes]:
    return Response(_encoded(view), status_code=status, media_type=JSON)


ROUTES = [list_dead_letters, get_dead_letter, replay_dead_letter, replay_dead_letters, discard_dead_letter]
