"""The HTTP application, put together: routes, conventions, errors, document."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from litestar import Router
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import HTTPScope, LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send

from penstock.api import (
    dead_letters,
    document,
    export_streams,
    exports,
    jobs,
    operations,
    previewing,
    product_events,
    receiving,
    records,
    reports,
    resources,
    storage_routes,
)
from penstock.api.conventions import Conventions
from penstock.api.event_door import PATH, EventDoor
from penstock.api.events import MOST_LISTENERS, Hub
from penstock.api.health import Health
from penstock.api.metrics import Metrics
from penstock.api.parameters import refuse_unknown_query
from penstock.api.problems import handle
from penstock.api.services import Service, Services
from penstock.api.tally import Tally
from penstock.bootstrap import Application

MOST_BODY_BYTES = 1024 * 1024  # of a JSON request; routes that receive files have limits of their own
MOST_REQUESTS = MOST_LISTENERS + 500

_V1: list[Any] = [
    *jobs.ROUTES,
    *reports.ROUTES,
    *resources.ROUTES,
    *receiving.ROUTES,
    *previewing.ROUTES,
    *export_streams.ROUTES,
    *exports.ROUTES,
    *storage_routes.ROUTES,
    *product_events.ROUTES,
    *dead_letters.ROUTES,
]
_ROOT: list[Any] = [*operations.ROUTES, *document.ROUTES, records.get_user]


class _Api(Service):
    """Litestar inside the conventions, which also see what its router refuses."""

    conventions: Conventions
    door: EventDoor
    door_handler: Any  # what the router would have led such a request to

    async def __call__(self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend) -> None:
        await self.conventions(scope, receive, send)  # type: ignore[arg-type]  # Litestar types its own scopes only

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = cast("HTTPScope", scope)
        if request["path"] == PATH and request["method"] == "POST" and not request["query_string"]:
            request["route_handler"] = self.door_handler
            await self.door(request, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(application: Application, *, stopping: asyncio.Event) -> Service:
    """An ASGI application over the services of this process. When `stopping` is set, streams of events end.

    Raises InvalidResourceError for a resource whose name the API needs itself.
    """
    app = _Api(
        route_handlers=[Router("/v1", route_handlers=[*_V1, *records.record_routes(application.registry)]), *_ROOT],
        exception_handlers={Exception: handle},
        guards=[refuse_unknown_query],
        request_max_body_size=MOST_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    app.conventions = Conventions(
        app.answer, most_requests=MOST_REQUESTS, route_of=_route_finder(app), stopping=stopping, public_url=application.settings.public_url
    )
    tally = Tally()
    # Made here: the first of several threads that ask for it would else not be the only one to make it.
    app.door = EventDoor(application.events, tally, idle_seconds=application.settings.upload_idle_seconds)
    app.door_handler = _handler(app, PATH, "POST")
    app.services = Services(
        application=application,
        tally=tally,
        hub=Hub(application.jobs.changes, application.jobs.get, stopping=stopping),
        health=Health(application),
        metrics=Metrics(application, tally),
        stopping=stopping,
    )
    app.state["document"] = document.document(app, application.registry, application.settings.public_url)
    return app


def _handler(app: Service, path: str, method: str) -> HTTPRouteHandler:
    route = next(route for route in app.routes if isinstance(route, HTTPRoute) and route.path_format == path)
    return next(handler for handler in route.route_handlers if method in handler.http_methods)


def _route_finder(app: Service) -> Callable[[Scope], str]:
    """The router's own template will not do: methods of one address may name its parameter differently, and it keeps the last."""
    templates = {id(handler): route.path_format for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers}
    return lambda scope: templates.get(id(scope.get("route_handler")), "(none)")


__all__ = ["create_app"]
