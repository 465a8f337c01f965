"""Messages out of the stream: asked for in batches, and kept from others while they are in this process."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.errors import EventLogUnavailableError
from penstock.events.model import Entry, Retry, Verdict
from penstock.events.nats.link import Link, has_no_responders
from penstock.events.nats.messages import unpacked
from penstock.logs import get_logger

_ANSWER_SECONDS = 2.0  # beyond what we asked the server to wait; what comes later is had by the next call
_SETTLE_SECONDS = 2.0
_SOON_SECONDS = 1e-6  # 0 would be no delay asked for
_NANOSECONDS = 1_000_000_000
_STATUS, _DESCRIPTION = "Status", "Description"
_NOTHING_MORE = ("404", "408")
_HEARTBEAT = "100"
_CONFLICT = "409"


class Held(NamedTuple):
    """When a batch could not be applied, and how many events anybody had settled by then."""

    at: float
    settled: int


class Batch:
    """Messages that this process has, in the order in which they came."""

    def __init__(self, messages: Sequence[Msg]) -> None:
        self.messages = list(messages)
        self.entries = [Entry(unpacked(message.data), message.metadata.num_delivered - 1) for message in self.messages]
        self._kept_at = time.monotonic()
        self.held: Held | None = None  # since when it could not be applied

    async def keep(self, seconds: float) -> None:
        """Tell the server that they are still ours, if the last time is so long ago."""
        if time.monotonic() - self._kept_at >= seconds:
            for message in self.messages:
                await message.in_progress()
            self._kept_at = time.monotonic()

    async def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Returns when the server has forgotten what is settled: it takes acknowledgements in order, and answers the last."""
        settled = []
        for message, verdict in zip(self.messages, verdicts, strict=True):
            if isinstance(verdict, Retry):
                await message.nak(max(verdict.seconds, _SOON_SECONDS))
            else:
                settled.append(message)
        for message in settled[:-1]:
            await message.ack()
        for message in settled[-1:]:
            await message.ack_sync(_SETTLE_SECONDS)

    async def release(self) -> None:
        """Let others have them at once."""
        for message in self.messages:
            await message.nak()


class Puller:
    """Asks for one batch at a time. `on_missing` is called when there may be no consumer to ask."""

    def __init__(self, link: Link, subject: str, *, on_missing: Callable[[], None]) -> None:
        self._link = link
        self._subject = subject  # where messages are asked for
        self._on_missing = on_missing
        self._client: Client | None = None
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._arrived: deque[tuple[float, Msg]] = deque()
        self._end: Msg | None = None  # the server's word that this request is over
        self._lost = False
        self._wanted = 0
        self._news = asyncio.Event()

    async def fetch(self, limit: int, *, wait_seconds: float, fresh_seconds: float) -> list[Msg]:
        """Up to `limit` messages; waits for so long at most for the first, and for as many to come, and not longer than `fresh_seconds`:
        what comes is ours for some time only.

        What came after an earlier call had given up is had first, unless it is older than that.
        """
        while self._arrived and self._arrived[0][0] < time.monotonic() - fresh_seconds:
            self._arrived.popleft()
        if not self._arrived:
            await self._ask(limit, min(wait_seconds, fresh_seconds))
        return [self._arrived.popleft()[1] for _ in range(min(limit, len(self._arrived)))]

    def lost(self) -> None:
        self._lost = True
        self._news.set()

    async def end(self) -> list[Msg]:
        """Stop listening; what has come and was not fetched. The caller bounds it in time."""
        if self._subscription is not None and self._client is not None and self._client.is_connected:
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # the library has not annotated it
        left = [message for _, message in self._arrived]
        self._arrived.clear()
        return left

    async def _ask(self, limit: int, wait_seconds: float) -> None:
        client = await self._link.client()
        try:
            await self._listen(client)
            self._end, self._lost, self._wanted = None, False, limit
            asked = {"batch": limit, "expires": int(wait_seconds * _NANOSECONDS)}
            await client.publish(self._subject, msgspec.json.encode(asked), reply=self._inbox)
            async with asyncio.timeout(wait_seconds + _ANSWER_SECONDS):
                await self._over()
        except TimeoutError as error:
            if not self._arrived:
                self._on_missing()  # a server says nothing of a consumer that is not there
                raise EventLogUnavailableError(f"NATS at {self._link.servers.shown} did not answer in time. Try again.") from error
        except (nats.errors.Error, OSError) as error:
            raise self._link.away() from error
        if not self._arrived:
            self._check_end()

    async def _over(self) -> None:
        while len(self._arrived) < self._wanted and self._end is None and not self._lost:
            self._news.clear()
            await self._news.wait()

    def _check_end(self) -> None:
        if self._end is None:
            raise self._link.away()
        headers: dict[str, Any] = self._end.headers or {}
        status, description = headers.get(_STATUS), headers.get(_DESCRIPTION, "")
        if status in _NOTHING_MORE:
            return
        if has_no_responders(self._end) or "deleted" in description.lower():
            self._on_missing()
        raise EventLogUnavailableError(f"NATS gives no events: {status} {description}.")

    async def _listen(self, client: Client) -> None:
        if client is not self._client:
            inbox = client.new_inbox()
            self._subscription = await client.subscribe(inbox, cb=self._came)
            self._client, self._inbox = client, inbox

    async def _came(self, message: Msg) -> None:
        status = message.headers.get(_STATUS) if message.headers is not None and not message.data else None
        if status is None:
            self._arrived.append((time.monotonic(), message))
            if len(self._arrived) >= self._wanted:
                self._news.set()
        elif status != _HEARTBEAT:
            self._end = message
            self._news.set()


class Keeper:
    """Keeps the batches that are in this process from being handed to another."""

    def __init__(self) -> None:
        self._batches: set[Batch] = set()
        self._task: asyncio.Task[None] | None = None
        self._seconds = 1.0

    def keep(self, batch: Batch, *, ack_wait: float) -> None:
        self._seconds = ack_wait / 3
        self._batches.add(batch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_on())

    def forget(self, batch: Batch) -> None:
        self._batches.discard(batch)

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 4)
            for batch in list(self._batches):
                try:
                    await batch.keep(self._seconds)
                except (nats.errors.Error, OSError) as error:
                    get_logger(__name__).warning("NATS was not told that events are under way", kind=type(error).__name__)
