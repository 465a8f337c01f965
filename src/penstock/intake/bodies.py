"""Limits around a body that a client sends: how large, how slow, and whole or not."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from penstock.errors import BodyTimeoutError, IncompleteBodyError, PayloadTooLargeError
from penstock.settings import Settings


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: int
    idle_seconds: float  # between two pieces of the body
    total_seconds: float

    @classmethod
    def of(cls, settings: Settings, *, beyond_bytes: int = 0) -> "BodyLimits":
        """What the settings allow; `beyond_bytes` for what a body holds besides the file."""
        return cls(
            max_bytes=settings.max_upload_bytes + beyond_bytes,
            idle_seconds=settings.upload_idle_seconds,
            total_seconds=settings.upload_total_seconds,
        )


async def bounded(chunks: AsyncIterator[bytes], limits: BodyLimits, *, content_length: int | None = None) -> AsyncGenerator[bytes, None]:
    """The same pieces without empty ones. Each may be asked for by another task.

    Raises PayloadTooLargeError before the first byte where `content_length` tells, else as soon as the limit is passed; BodyTimeoutError;
    IncompleteBodyError for fewer bytes than `content_length`.
    """
    if content_length is not None and content_length > limits.max_bytes:
        raise too_large(limits.max_bytes)
    deadline = asyncio.get_running_loop().time() + limits.total_seconds
    received = 0
    while (chunk := await _next(chunks, limits, deadline)) is not None:
        received += len(chunk)
        if received > limits.max_bytes:
            raise too_large(limits.max_bytes)
        if chunk:
            yield chunk
    if content_length is not None and received < content_length:
        raise IncompleteBodyError(
            f"The body ended after {received} of {content_length} bytes. Send it again.", received=received, announced=content_length
        )


async def collected(chunks: AsyncIterator[bytes], most_bytes: int) -> tuple[bytes, bool]:
    """The first `most_bytes` and whether that is all; the rest is not read."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        if len(held) > most_bytes:
            return bytes(held[:most_bytes]), False
    return bytes(held), True


def too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is larger than the {limit} bytes that are taken at most.", limit_bytes=limit)


async def _next(chunks: AsyncIterator[bytes], limits: BodyLimits, deadline: float) -> bytes | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(min(loop.time() + limits.idle_seconds, deadline)):
            return await anext(chunks, None)
    except TimeoutError:
        if loop.time() >= deadline:
            message = f"The body was not whole within {limits.total_seconds:g} s. Send it over a faster connection, or in parts."
        else:
            message = f"Nothing of the body came for {limits.idle_seconds:g} s. Send it again."
        raise BodyTimeoutError(message) from None
