"""What a client still sends when its answer is known already: taken for a moment, so that the answer reaches it.

A connection that is closed while bytes arrive is reset, and with it goes an answer that the client has not read yet.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from litestar.types import Receive, ReceiveMessage

_MOST_BYTES = 64 * 1024 * 1024
_MOST_SECONDS = 1.0


class Incoming:
    """The body on its way in, with what is known of its end. `receive` takes the place of the one that it wraps."""

    __slots__ = ("_begun", "_receive", "over")

    def __init__(self, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        self._receive = receive
        self.over = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        self._begun = b"expect" not in headers  # else it comes only when it is asked for

    async def receive(self) -> ReceiveMessage:
        self._begun = True
        message = await self._receive()
        self.over = message["type"] != "http.request" or not message["more_body"]
        return message

    async def pass_over(self) -> None:
        """Read on to the end of the body, for a second and 64 MiB at most."""
        passed = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOST_SECONDS):
                while self._begun and not self.over and passed < _MOST_BYTES:
                    message = await self.receive()
                    passed += len(message["body"]) if message["type"] == "http.request" else 0
