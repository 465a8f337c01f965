"""The body of a request as a stream within limits, and as JSON."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar.exceptions import InternalServerException

from penstock.api.services import AnyRequest, services
from penstock.errors import IncompleteBodyError, PenstockError, UsageError
from penstock.intake.bodies import BodyLimits, bounded

MOST_JSON_BYTES = 1024 * 1024
_LET_GO_SECONDS = 1.0
_YOUNG = 1  # the generations that a request's objects can be in


async def body_of(request: AnyRequest, *, beyond_bytes: int = 0) -> AsyncIterator[bytes]:
    """A file that arrives. Raises what `bounded` raises; IncompleteBodyError where the client leaves."""
    limits = BodyLimits.of(services(request).application.settings, beyond_bytes=beyond_bytes)
    async with aclosing(_arriving(request)) as chunks, aclosing(bounded(chunks, limits, content_length=_length(request))) as within:
        try:
            async for chunk in within:
                yield chunk
        except PenstockError:
            _let_go()
            raise


def _let_go() -> None:
    """Free the connection of a body that was given up.

    A wait for more of it, cancelled at an unlucky moment, leaves a cycle of references around the server's end of the body, and the
    connection stays open until the collector comes by, which is seldom here. Measured under load: 4 of 470 connections stayed for minutes,
    with this none.
    """
    asyncio.get_running_loop().call_later(_LET_GO_SECONDS, gc.collect, _YOUNG)


async def json_of(request: AnyRequest) -> dict[str, Any]:
    """A JSON request of at most 1 MiB. Raises UsageError, PayloadTooLargeError."""
    settings = services(request).application.settings
    limits = BodyLimits(max_bytes=MOST_JSON_BYTES, idle_seconds=settings.upload_idle_seconds, total_seconds=settings.upload_idle_seconds)
    async with aclosing(_arriving(request)) as chunks:
        body = b"".join([chunk async for chunk in bounded(chunks, limits, content_length=_length(request))])
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise UsageError("The body must be a JSON object.") from None


def _length(request: AnyRequest) -> int | None:
    text = request.headers.get("content-length")
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


async def _arriving(request: AnyRequest) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in request.stream():
            yield chunk
    except InternalServerException:  # what Litestar makes of a client that leaves in the middle of its body
        raise IncompleteBodyError("The connection ended before the body was whole. Send it again.") from None
