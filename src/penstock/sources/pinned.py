"""Connections for a fetch: to the addresses that were judged and no other, within a deadline, until somebody cancels.

Costly to import; only a fetch does.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from penstock.errors import CancelledError, DownloadFailedError

CONNECT_SECONDS, IDLE_SECONDS = 10.0, 30.0
_POLL_SECONDS = 0.5  # how soon a wish to cancel is seen


class Bounds:
    """What ends a fetch from outside: its deadline and `cancel`."""

    def __init__(self, total_seconds: float, cancel: threading.Event) -> None:
        self._total_seconds = total_seconds
        self._deadline = time.monotonic() + total_seconds
        self._cancel = cancel

    def left(self) -> float:
        """Seconds; more than 0. Raises CancelledError, DownloadFailedError."""
        if self._cancel.is_set():
            raise CancelledError("Cancelled while the file was being fetched.")
        if (left := self._deadline - time.monotonic()) <= 0:
            raise DownloadFailedError(f"The file did not arrive within {self._total_seconds:g} s.")
        return left


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to one of the given addresses, whatever host it is asked for; the host stays the name of the certificate."""

    def __init__(self, addresses: Sequence[str], bounds: Bounds) -> None:
        self._addresses = addresses
        self._bounds = bounds
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - judged and resolved already
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - it has bounds of its own
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        last: Exception | None = None
        for address in self._addresses:
            try:
                seconds = min(CONNECT_SECONDS, self._bounds.left())
                stream = self._inner.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
            else:
                return _BoundedStream(stream, self._bounds)
        raise last or httpcore.ConnectError("no address")


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, bounds: Bounds) -> None:
        self._inner = inner
        self._bounds = bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - as above
        idle_until = time.monotonic() + IDLE_SECONDS
        while True:
            try:
                return self._inner.read(max_bytes, min(_POLL_SECONDS, self._bounds.left()))
            except httpcore.ReadTimeout:
                if time.monotonic() >= idle_until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - as above
        self._inner.write(buffer, min(IDLE_SECONDS, self._bounds.left()))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:  # noqa: ARG002 - as above
        seconds = min(CONNECT_SECONDS, self._bounds.left())
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._bounds)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
