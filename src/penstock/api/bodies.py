"""The body of a request as a stream within limits, and as JSON."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar.exceptions import InternalServerException

from penstock.api.services import AnyRequest, services
from penstock.errors import IncompleteBodyError, UsageError
from penstock.intake.bodies import BodyLimits, bounded

MOST_JSON_BYTES = 1024 * 1024


async def body_of(request: AnyRequest, *, beyond_bytes: int = 0) -> AsyncIterator[bytes]:
    """A file that arrives. Raises what `bounded` raises; IncompleteBodyError where the client leaves."""
    limits = BodyLimits.of(services(request).application.settings, beyond_bytes=beyond_bytes)
    async with aclosing(_arriving(request)) as chunks, aclosing(bounded(chunks, limits, content_length=_length(request))) as within:
        async for chunk in within:
            yield chunk


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
