"""The body of a request as a stream within limits, and as JSON."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import msgspec
from litestar.exceptions import InternalServerException

from penstock.api.services import AnyRequest, services
from penstock.errors import IncompleteBodyError, UnsupportedMediaTypeError, UsageError
from penstock.intake.bodies import BodyLimits, bounded
from penstock.intake.media import JSON, is_json, media_of

MOST_JSON_BYTES = 1024 * 1024
_PLAIN, _EXACT = msgspec.json.Decoder(dict[str, Any]), msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


async def body_of(request: AnyRequest, *, beyond_bytes: int = 0) -> AsyncIterator[bytes]:
    """A file that arrives. Raises what `bounded` raises; IncompleteBodyError where the client leaves."""
    limits = BodyLimits.of(services(request).application.settings, beyond_bytes=beyond_bytes)
    async with aclosing(_arriving(request)) as chunks, aclosing(bounded(chunks, limits, content_length=_length(request))) as within:
        async for chunk in within:
            yield chunk


async def json_request(request: AnyRequest, *, exact: bool = False) -> dict[str, Any]:
    """As `json_of`, where nothing but JSON is taken. Raises UnsupportedMediaTypeError besides."""
    check_json(request.headers.get("content-type"), request.headers.get("content-encoding"))
    return await json_of(request, exact=exact)


def check_json(content_type: str | None, content_encoding: str | None) -> None:
    """Raises UnsupportedMediaTypeError for anything but plain JSON."""
    if not is_json(content_type):  # first, since `media_of` would name what other addresses take besides
        raise UnsupportedMediaTypeError(f"Content-Type must be {JSON} here.", allowed=[JSON])
    media_of(content_type, content_encoding, format_given=None)


async def json_of(request: AnyRequest, *, exact: bool = False) -> dict[str, Any]:
    """A JSON request of at most 1 MiB. `exact`: fractions as Decimal, with their digits, and no key twice.

    Raises UsageError, PayloadTooLargeError.
    """
    body = await whole(request, MOST_JSON_BYTES)
    try:
        decoded = (_EXACT if exact else _PLAIN).decode(body)
        if exact:
            json.loads(body, object_pairs_hook=_refuse_repeated)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise UsageError("The body must be a JSON object.") from None
    return decoded


async def whole(request: AnyRequest, most_bytes: int) -> bytes:
    """A body that is held in memory, and must have come within UPLOAD_IDLE_SECONDS.

    Raises PayloadTooLargeError, BodyTimeoutError, IncompleteBodyError.
    """
    seconds = services(request).application.settings.upload_idle_seconds
    limits = BodyLimits(max_bytes=most_bytes, idle_seconds=seconds, total_seconds=seconds)
    async with aclosing(_arriving(request)) as chunks:
        return b"".join([chunk async for chunk in bounded(chunks, limits, content_length=_length(request))])


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    """The last of two would count, and the first be ignored without a word."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise UsageError(f"The key {key[:100]!r} is given more than once.", key=key[:100])
        seen.add(key)


def _length(request: AnyRequest) -> int | None:
    text = request.headers.get("content-length")
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


async def _arriving(request: AnyRequest) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in request.stream():
            yield chunk
    except InternalServerException:  # what Litestar makes of a client that leaves in the middle of its body
        raise IncompleteBodyError("The connection ended before the body was whole. Send it again.") from None
