"""Messages into the stream, many under way at once, each with its own answer."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from penstock.errors import EventLogUnavailableError, OverloadedError
from penstock.events.model import Outcome
from penstock.events.nats.link import Link, has_no_responders

_ANSWER_SECONDS = 3.0
_PIECE = 1000  # messages of one call that are under way at once
_UNDER_WAY = 4000  # of all calls together
_WAITING = 10_000  # calls that may wait for their turn
_STORE_FAILED = 10077  # with the reason in words
_FULL_WORDS = ("maximum messages exceeded", "maximum bytes exceeded")
_ID_HEADER = "Nats-Msg-Id"


class Message(NamedTuple):
    body: bytes
    event_id: str | None  # one that is known already is not stored again


class Sender:
    """Used on one event loop. `on_missing` is called when nothing keeps what is sent: the stream is gone."""

    def __init__(self, link: Link, subject: str, *, on_missing: Callable[[], None]) -> None:
        self._link = link
        self._subject = subject
        self._on_missing = on_missing
        self._client: Client | None = None
        self._inbox = ""
        self._tokens = itertools.count()
        self._sendings: dict[str, _Sending] = {}
        self._under_way = 0
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._inbox_lock = asyncio.Lock()

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """One outcome for each, in their order. Raises EventLogUnavailableError, OverloadedError, HandedOverError."""
        outcomes: list[Outcome] = []
        for start in range(0, len(messages), _PIECE):
            piece = messages[start : start + _PIECE]
            await self._take(len(piece))
            try:
                outcomes += await self._sent(piece)
            finally:
                self._under_way -= len(piece)
                self._freed.set()
        return outcomes

    def lost(self) -> None:
        """The connection is gone, and with it the answers that are under way."""
        for sending in self._sendings.values():
            sending.fail(self._link.away())

    async def _take(self, count: int) -> None:
        if not self._turn.locked() and self._under_way + count <= _UNDER_WAY:
            self._under_way += count
            return
        if self._waiting >= _WAITING:
            raise OverloadedError("Too many events are on their way to NATS. Try again in a moment.")
        self._waiting += 1
        try:
            async with self._turn:  # first come, first served: many small ones must not keep a large one out
                while self._under_way + count > _UNDER_WAY:
                    self._freed.clear()
                    await self._freed.wait()
                self._under_way += count
        finally:
            self._waiting -= 1

    async def _sent(self, messages: Sequence[Message]) -> list[Outcome]:
        client = await self._link.client()
        if client is not self._client:
            await self._listen(client)
        token = str(next(self._tokens))
        self._sendings[token] = sending = _Sending(len(messages))
        try:
            for index, (body, event_id) in enumerate(messages):
                # The library strips and alters what a header may not hold: two ids must not become one.
                headers = {_ID_HEADER: quote(event_id)} if event_id else None
                await client.publish(self._subject, body, reply=f"{self._inbox}.{token}.{index}", headers=headers)
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await sending.done
        except TimeoutError as error:
            raise EventLogUnavailableError(f"NATS at {self._link.servers.shown} did not answer in time. Try again.") from error
        except (nats.errors.Error, OSError) as error:
            raise self._link.away() from error
        finally:
            del self._sendings[token]
            if sending.missing:
                self._on_missing()

    async def _listen(self, client: Client) -> None:
        async with self._inbox_lock:
            if client is self._client:
                return
            inbox = client.new_inbox()
            try:
                await client.subscribe(f"{inbox}.*.*", cb=self._answered)
            except (nats.errors.Error, OSError) as error:
                raise self._link.away() from error
            self._client, self._inbox = client, inbox

    async def _answered(self, message: Msg) -> None:
        _, token, index = message.subject.rsplit(".", 2)
        if (sending := self._sendings.get(token)) is not None:  # else nobody waits any more
            sending.answer(int(index), message)


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None
    duplicate: bool = False


_decode = msgspec.json.Decoder(_Answer).decode


class _Sending:
    """Messages under way, until the last one's answer."""

    def __init__(self, count: int) -> None:
        self.done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.missing = False
        self._outcomes = [Outcome.ACCEPTED] * count
        self._left = count

    def answer(self, index: int, message: Msg) -> None:
        if self.done.done():
            return
        if has_no_responders(message):
            self.missing = True
            self.fail(EventLogUnavailableError("NATS has no stream for events; it is made again. Try again in a moment."))
            return
        try:
            self._outcomes[index] = _outcome(message.data)
        except (EventLogUnavailableError, msgspec.DecodeError) as error:
            self.fail(error)
            return
        self._left -= 1
        if self._left == 0:
            self.done.set_result(self._outcomes)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # where nobody waits yet or any more, that is no fault of its own


def _outcome(answer: bytes) -> Outcome:
    decoded = _decode(answer)
    error = decoded.error
    if error is None:
        return Outcome.DUPLICATE if decoded.duplicate else Outcome.ACCEPTED
    if error.err_code == _STORE_FAILED and error.description in _FULL_WORDS:
        return Outcome.FULL
    raise EventLogUnavailableError(f"NATS did not store the event: {error.description}.", error_code=error.err_code)
