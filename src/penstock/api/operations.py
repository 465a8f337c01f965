"""For those who run the server: is it alive, is it ready, is it healthy."""

from typing import Literal

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from penstock.api.health import HealthView
from penstock.api.metrics import MEDIA_TYPE as METRICS_TYPE
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, services
from penstock.errors import InvalidOptionError

_UNHEALTHY = {503: ResponseSpec(HealthView, generate_examples=False, description="Something that it needs has failed: see `checks`.")}


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests should be sent here."""

    status: Literal["ready", "stopping", "unhealthy"]


class Pong(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a ping."""

    message: Literal["pong"] = "pong"


async def _health(request: AnyRequest) -> Response[HealthView]:
    view = await services(request).health.look()
    return Response(view, status_code=HTTP_200_OK if view.status == "healthy" else HTTP_503_SERVICE_UNAVAILABLE)


_HEALTH_ERRORS = {**problems(InvalidOptionError), **_UNHEALTHY}


@get("/health", operation_id="get_health", tags=["operations"], summary="Can the server do its work", responses=_HEALTH_ERRORS)
async def health(request: AnyRequest) -> Response[HealthView]:
    return await _health(request)


@get("/healthz", operation_id="get_healthz", tags=["operations"], summary="The same as /health", responses=_HEALTH_ERRORS)
async def healthz(request: AnyRequest) -> Response[HealthView]:
    return await _health(request)


@get("/live", operation_id="get_live", tags=["operations"], summary="Does the process answer", responses=problems(InvalidOptionError))
async def live() -> Live:
    return Live()


@get(
    "/ready",
    operation_id="get_ready",
    tags=["operations"],
    summary="Should requests be sent here",
    responses={
        **problems(InvalidOptionError),
        503: ResponseSpec(Ready, generate_examples=False, description="It is stopping, or something that it needs has failed."),
    },
)
async def ready(request: AnyRequest) -> Response[Ready]:
    if services(request).stopping.is_set():
        return Response(Ready(status="stopping"), status_code=HTTP_503_SERVICE_UNAVAILABLE)
    if (await services(request).health.look()).status == "unhealthy":
        return Response(Ready(status="unhealthy"), status_code=HTTP_503_SERVICE_UNAVAILABLE)
    return Response(Ready(status="ready"))


@get("/api/ping", operation_id="ping", tags=["operations"], summary="Answers pong", responses=problems(InvalidOptionError))
async def ping() -> Pong:
    return Pong()


@get(
    "/metrics",
    operation_id="get_metrics",
    tags=["operations"],
    summary="How events fare, for Prometheus",
    description="In the text format. What counts over all servers is the same from each of them, and stays what it was while the database "
    "is away.",
    responses={
        **problems(InvalidOptionError),
        200: ResponseSpec(str, generate_examples=False, description="The metrics.", media_type="text/plain"),
    },
)
async def metrics(request: AnyRequest) -> Response[bytes]:
    return Response(await services(request).metrics.text(), headers={"Content-Type": METRICS_TYPE})


ROUTES = [health, healthz, live, ready, ping, metrics]
