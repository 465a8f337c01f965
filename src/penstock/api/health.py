"""Whether this server can do its work: one look at a time, however many ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import msgspec

from penstock.bootstrap import Application
from penstock.errors import PenstockError
from penstock.logs import get_logger

_FRESH_SECONDS = 1.0
_LOOK_SECONDS = 5.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the server needs."""

    status: Literal["ok", "failed"]
    ms: float  # how long the look took
    message: str | None = None


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the server can do its work."""

    status: Literal["healthy", "unhealthy"]
    version: str
    checks: dict[str, Check]


@dataclass(slots=True)
class _Look:
    view: HealthView
    at: float


class Health:
    """Looks at database and storage, and at NATS where events are kept there, at most once a second; who asks meanwhile gets the same
    answer.
    """

    def __init__(self, application: Application) -> None:
        self._looks: dict[str, Callable[[], Awaitable[None]]] = {
            "database": lambda: asyncio.to_thread(_ask, application),
            "storage": lambda: asyncio.to_thread(lambda: application.storage.check()),  # noqa: PLW0108 - opens the storage, which is not for the event loop
        }
        if application.settings.nats_url is not None:
            self._looks["events"] = lambda: application.events.log.check()  # noqa: PLW0108 - made at its first use, not for a document
        self._last: _Look | None = None
        self._running: asyncio.Task[HealthView] | None = None

    async def look(self) -> HealthView:
        if self._last is not None and time.monotonic() - self._last.at < _FRESH_SECONDS:
            return self._last.view
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._look(), name="health")
        return await asyncio.shield(self._running)

    async def _look(self) -> HealthView:
        names = list(self._looks)
        checks = await asyncio.gather(*(self._check(name) for name in names))
        healthy = all(check.status == "ok" for check in checks)
        view = HealthView(
            status="healthy" if healthy else "unhealthy", version=version("penstock"), checks=dict(zip(names, checks, strict=True))
        )
        self._last = _Look(view, time.monotonic())
        return view

    async def _check(self, name: str) -> Check:
        began = time.perf_counter()
        message: str | None = None
        try:
            await asyncio.wait_for(self._looks[name](), _LOOK_SECONDS)
        except TimeoutError:
            message = f"no answer within {_LOOK_SECONDS:g} s"
        except PenstockError as error:
            message = error.code
        except Exception:  # noqa: BLE001 - a probe of an unhealthy server is answered, whatever is wrong with it
            get_logger(__name__).exception("health check failed", check=name)
            message = "internal_error"
        if message is not None:
            get_logger(__name__).warning("unhealthy", check=name, reason=message)
        ms = round((time.perf_counter() - began) * 1000, 1)
        return Check(status="ok" if message is None else "failed", ms=ms, message=message)


def _ask(application: Application) -> None:
    with application.database.connection() as connection:
        connection.execute("SELECT 1")
