"""A database that hangs: the connection stands, and nothing comes. The server's own limits end nothing there."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import psycopg
import pytest

from penstock.database.answering import NoAnswerError
from penstock.errors import DatabaseUnavailableError, HandedOverError
from penstock.events import nats_log
from penstock.events.model import SETTLED, Entry, Outcome, Verdict
from penstock.events.postgres import storing, taking
from tests.events.conftest import WAIT, EventStore, Taken, delivered, event, eventually
from tests.support.proxy import Proxy

_SECONDS = 0.5
ACCEPTED = Outcome.ACCEPTED


def test_who_waits_to_be_stored_is_told(tables: EventStore, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind the group that hangs too, and at once: each of them would else wait as long again. It is one outage."""
    monkeypatch.setattr(storing, "_ANSWER_SECONDS", _SECONDS)
    monkeypatch.setattr(storing, "_LONG_SECONDS", _SECONDS)
    proxy = proxied(tables.conninfo)

    async def test() -> None:
        log = tables.open(conninfo=proxy.conninfo, CIRCUIT_BREAKER_THRESHOLD="2", CIRCUIT_BREAKER_TIMEOUT="60s")
        assert await log.append([event(0)]) == [ACCEPTED]
        proxy.stall()
        first = asyncio.ensure_future(log.append([event(1)]))
        await asyncio.sleep(_SECONDS / 2)
        behind = [asyncio.ensure_future(log.append([event(n)])) for n in range(2, 12)]
        answers = await asyncio.gather(first, *behind, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseUnavailableError}, answers
        assert all(NoAnswerError.__name__ in str(answer) for answer in answers), answers
        proxy.resume()
        assert await log.append([event(12)]) == [ACCEPTED]
        stored = [stock for (stock,) in tables.execute("SELECT stock FROM penstock.events")]
        assert {0, 12} <= set(stored) <= {0, 1, 12}

    tables.run(test)


def test_the_end_comes_through_a_group_that_hangs(
    tables: EventStore, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands behind those who are told, and is found all the same: else the thread would stay."""
    monkeypatch.setattr(storing, "_ANSWER_SECONDS", _SECONDS)
    monkeypatch.setattr(storing, "_LONG_SECONDS", _SECONDS)
    proxy = proxied(tables.conninfo)

    async def test() -> None:
        log = tables.open(conninfo=proxy.conninfo)
        assert await log.append([event(0)]) == [ACCEPTED]
        proxy.stall()
        first = asyncio.ensure_future(log.append([event(1)]))
        await asyncio.sleep(_SECONDS / 2)
        behind = asyncio.ensure_future(log.append([event(2)]))
        await asyncio.sleep(0)
        await log.close()
        answers = await asyncio.gather(first, behind, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DatabaseUnavailableError}, answers

    tables.run(test)


def test_a_batch_that_hangs_comes_again(store: EventStore, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of what is applied: nothing is settled, and whoever delivers is told."""
    monkeypatch.setattr(taking, "_ANSWER_SECONDS", _SECONDS)
    monkeypatch.setattr(nats_log, "_ANSWER_SECONDS", _SECONDS)
    proxy, taken = proxied(store.conninfo), Taken()

    def hangs(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        proxy.stall()
        with connection.transaction():
            connection.execute("SELECT 1")
        return [SETTLED] * len(entries)

    async def test() -> None:
        log = store.open(conninfo=proxy.conninfo)
        await eventually(lambda: log.append([event(n) for n in range(3)]))
        with pytest.raises(DatabaseUnavailableError):
            await delivered(log, 3, hangs)
        proxy.cut()  # the server has no other way to hear of the end of a connection that swallows everything
        proxy.resume()
        assert await eventually(lambda: delivered(log, 3, taken)) == 3
        assert sorted(taken.stocks) == [0, 1, 2]

    store.run(test)


def test_who_gives_up_closing_applies_no_more(tables: EventStore, proxied: Callable[[str], Proxy]) -> None:
    """What is accepted hangs; what is taken ends all the same."""
    proxy = proxied(tables.conninfo)

    async def test() -> None:
        log = tables.open(conninfo=proxy.conninfo)
        assert await log.append([event(0)]) == [ACCEPTED]
        proxy.stall()
        left = asyncio.ensure_future(log.append([event(1)]))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.close(), 0.1)
        with pytest.raises(HandedOverError):
            await log.deliver(Taken(), limit=1, wait_seconds=WAIT)
        proxy.resume()
        assert await left == [ACCEPTED]

    tables.run(test)


def test_a_thread_that_cannot_start_keeps_no_later_sender_waiting(tables: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test() -> None:
        log = tables.open()
        with monkeypatch.context() as short, pytest.raises(RuntimeError):  # noqa: PT012 - the way back belongs to it
            short.setattr(threading.Thread, "start", refuse)
            await log.append([event(1)])
        assert await log.append([event(2)]) == [ACCEPTED]

    tables.run(test)
