"""What the routes have at hand, and how a handler reaches it."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State

from penstock.api.events import Hub
from penstock.api.health import Health
from penstock.api.metrics import Metrics
from penstock.api.tally import Tally
from penstock.bootstrap import Application

AnyRequest = Request[Any, Any, State]


@dataclass(frozen=True, slots=True)
class Services:
    application: Application
    tally: Tally
    hub: Hub
    health: Health
    metrics: Metrics
    stopping: asyncio.Event  # set when the process begins to stop: streams end, nothing new begins


class Service(Litestar):
    """The Litestar application with the services behind it."""

    services: Services


def services(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    return cast("Service", connection.app).services


def base_url(request: AnyRequest) -> str:
    """What stands before the path in the links of an answer: PUBLIC_URL, else the address that the client used; no slash at its end."""
    return services(request).application.settings.public_url or str(request.base_url).rstrip("/")
