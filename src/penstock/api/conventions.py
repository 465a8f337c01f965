"""What every request meets before any route, and every answer passes last.

Outside of Litestar, whose middleware does not see what its router refuses (404, 405): the request id, the second prefix, HEAD, the bound
on requests under way, the headers that protect, and one access line per request.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Self, cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from penstock.api.crossing import cross_site, unknown_host
from penstock.api.leftover import Incoming
from penstock.api.problems import ADDRESS, HEAD_ONLY, HEADERS, MEDIA_TYPE, REQUEST_ID, rendered
from penstock.errors import HandedOverError, OverloadedError, PenstockError, UsageError
from penstock.logs import get_logger

_levels = logging.getLogger(__name__)
_VISIBLE_ASCII = re.compile(rb"[\x21-\x7e]{1,128}")
_SECOND_PREFIX, _PREFIX = "/api/v1", "/v1"
_LONGEST_TARGET = 16 * 1024  # bytes of path and query
# Asked every few seconds by machines, or thousands of times a second: their lines are for debugging, unless something was wrong.
_QUIET_ROUTES = frozenset({"/health", "/healthz", "/live", "/ready", "/api/ping", "/metrics", "/v1/events"})
_DEFAULTS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cache-control", b"no-store"),
)
_NO_STATUS, _CLIENT_GONE = 0, 499
_BAD_REQUEST, _REQUEST_TIMEOUT, _INTERNAL_ERROR = 400, 408, 500  # members of an enum are slow to compare with


class Conventions:
    """Wraps the whole application. `most_requests` is how many may be under way at once; one more is refused (503 overloaded).

    `route_of` gives the template of the route that a request was led to, for the access line. What is cut off while `stopping` is set is
    answered with 503.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        most_requests: int,
        route_of: Callable[[Scope], str],
        stopping: asyncio.Event,
        public_url: str | None = None,
    ) -> None:
        self._app = app
        self._stopping = stopping
        self._public_url = public_url
        self._route_of = route_of
        self._most_requests = most_requests
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # type: ignore[comparison-overlap]  # its types know no lifespan
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        state = scope.setdefault("state", {})
        state[REQUEST_ID], state[ADDRESS], state[HEADERS] = request_id, scope["path"], headers
        incoming = Incoming(headers, receive)
        answer = _Answer(cast("HTTPScope", scope), send, request_id, incoming)
        self._under_way += 1
        bound = bind_contextvars(request_id=request_id)
        try:
            await self._answer(cast("HTTPScope", scope), headers, incoming.receive, answer)
        finally:
            reset_contextvars(**bound)
            self._under_way -= 1

    async def _answer(self, scope: HTTPScope, headers: Mapping[bytes, bytes], receive: Receive, answer: "_Answer") -> None:
        began, method = time.perf_counter(), scope["method"]
        status = _CLIENT_GONE  # stays where the task is cancelled: the client has left
        try:
            if (refusal := self._refusal(scope, headers)) is not None:
                await answer.refuse(refusal)
            else:
                await self._app(_rewritten(scope), receive, answer.send)
            status = answer.status
        except _HeadAnsweredError:
            status = answer.status
        except asyncio.CancelledError:
            if self._stopping.is_set() and answer.status == _NO_STATUS:
                await answer.refuse(HandedOverError("The server stops."))
                status = answer.status
            raise
        except Exception as error:
            status = answer.status
            if not answer.head_answered:
                # The head of the answer is out: what is left is to end without the last piece, so that nobody takes it for whole.
                _log_broken_off(error)
                raise
        finally:
            _access_line(method, self._route_of(scope), status or _CLIENT_GONE, time.perf_counter() - began)

    def _refusal(self, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> PenstockError | None:
        if self._under_way > self._most_requests:
            return OverloadedError(f"The server has {self._most_requests} requests under way, which is its limit.")
        if len(scope["raw_path"] or b"") + len(scope["query_string"] or b"") > _LONGEST_TARGET:
            return UsageError(f"The address is too long: it may have {_LONGEST_TARGET} bytes.")
        return unknown_host(headers, self._public_url) or cross_site(scope["method"], headers, self._public_url)


class _HeadAnsweredError(Exception):
    """Unwinds a handler whose answer to HEAD is out; its body is not wanted."""


class _Answer:
    """The answer on its way out."""

    __slots__ = ("_incoming", "_is_head", "_path", "_request_id", "_send", "head_answered", "status")

    def __init__(self, scope: HTTPScope, send: Send, request_id: str, incoming: Incoming) -> None:
        self.status = _NO_STATUS
        self.head_answered = False
        self._path = scope["path"]
        self._is_head = scope["method"] == "HEAD"
        self._request_id = request_id
        self._send = send
        self._incoming = incoming

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            await self._send(message)
            return
        self.status = message["status"]
        if not self._incoming.over and self.status < _INTERNAL_ERROR and self.status != _REQUEST_TIMEOUT:
            await self._incoming.pass_over()
        given = message["headers"]
        headers = [*(given if type(given) is Completed else Completed.of(given)), (b"x-request-id", self._request_id.encode())]
        if not self._incoming.over:
            # The server closes then, and a client that is not told loses the next request that it sends on this connection.
            headers.append((b"connection", b"close"))
        message["headers"] = headers
        await self._send(message)
        if self._is_head:
            self.head_answered = True
            await self._send(_last(b""))
            raise _HeadAnsweredError

    async def refuse(self, error: PenstockError) -> None:
        status, body, headers = rendered(error, self._path, self._request_id)
        facts = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in facts.items()]
        await self.send(cast("Message", {"type": "http.response.start", "status": status, "headers": raw}))
        await self.send(_last(body))


def _last(body: bytes) -> Message:
    return cast("Message", {"type": "http.response.body", "body": body, "more_body": False})


class Completed(tuple[tuple[bytes, bytes], ...]):
    """Headers that have all that an answer must have, save for its request id. Made beforehand, they cost an answer nothing."""

    __slots__ = ()

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Self:
        """The route's own headers go before the defaults."""
        given = list(headers)
        names = {name.lower() for name, _ in given}
        return cls([*given, *(default for default in _DEFAULTS if default[0] not in names)])


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    return given.decode() if given is not None and _VISIBLE_ASCII.fullmatch(given) else os.urandom(16).hex()


def _rewritten(scope: HTTPScope) -> HTTPScope:
    """`/api/v1/...` is `/v1/...`, and HEAD is a GET whose body is dropped. In place: what the router finds is read afterwards."""
    path = scope["path"]
    if path == _SECOND_PREFIX or path.startswith(_SECOND_PREFIX + "/"):
        scope["path"] = _PREFIX + path[len(_SECOND_PREFIX) :]
        scope["raw_path"] = scope["raw_path"].removeprefix(b"/api")
    if scope["method"] == "HEAD":
        scope["method"] = "GET"
        scope["state"][HEAD_ONLY] = True
    return scope


def _log_broken_off(error: Exception) -> None:
    """What is foreseen needs no traceback."""
    known = error if isinstance(error, PenstockError) else error.__cause__
    log = get_logger(__name__)
    if isinstance(known, PenstockError):
        log.error("the answer broke off", code=known.code, reason=known.message)
    else:
        log.error("the answer broke off", exc_info=error)


def _access_line(method: str, route: str, status: int, seconds: float) -> None:
    level = logging.DEBUG if status < _BAD_REQUEST and route in _QUIET_ROUTES else logging.INFO
    if _levels.isEnabledFor(level):  # a line that nobody wants would still cost 20 us
        get_logger(__name__).log(level, "request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
