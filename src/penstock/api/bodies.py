"""The body of a request as a stream within limits, and as JSON."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from decimal import Decimal
from typing import Any

import msgspec
from litestar.exceptions import InternalServerException

from penstock.api.services import AnyRequest, services
from penstock.errors import IncompleteBodyError, OverloadedError, UnsupportedMediaTypeError, UsageError
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


def refuse_body(request: AnyRequest) -> None:
    """Where a request says all in its address: a filter that is sent in the body would be ignored. Raises UsageError."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise UsageError("This address takes no body: say what you want in the address (?product_id=...&code=...).")


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


class Room:
    """How many bytes of bodies may be held in memory at once, over all requests. Used on one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = self._free = most_bytes

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """To be called with the size of each piece; all of them are let go of at the end. It raises OverloadedError."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if size > self._free:
                raise OverloadedError(f"The server holds {self._most_bytes} bytes of such requests, which is its limit.")
            held += size
            self._free -= size

        try:
            yield take
        finally:
            self._free += held


async def whole(
    request: AnyRequest, most_bytes: int, *, total_seconds: float | None = None, take: Callable[[int], None] = lambda _: None
) -> bytes:
    """A body that is held in memory. Not given how long it may take, that is UPLOAD_IDLE_SECONDS. `take` is that of a `Room`.

    Raises PayloadTooLargeError, BodyTimeoutError, IncompleteBodyError, and what `take` raises.
    """
    seconds = services(request).application.settings.upload_idle_seconds
    limits = BodyLimits(max_bytes=most_bytes, idle_seconds=seconds, total_seconds=total_seconds or seconds)
    pieces = []
    async with aclosing(_arriving(request)) as chunks, aclosing(bounded(chunks, limits, content_length=_length(request))) as within:
        async for chunk in within:
            take(len(chunk))
            pieces.append(chunk)
    return b"".join(pieces)


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
