"""NATS away, killed under load, coming back; who we are there, and who may know it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from penstock.errors import CircuitOpenError, EventLogUnavailableError, HandedOverError, SettingsError
from penstock.events.nats.link import servers_of
from penstock.events.nats_log import NatsLog
from tests.events.nats.kit import (
    ACCEPTED,
    SECONDS,
    Taken,
    event,
    eventually,
    opened,
    run,
    take,
)
from tests.support.nats import NatsServer, nats_server
from tests.support.proxy import Proxy
from tests.support.waiting import until


def test_a_killed_server_loses_nothing_and_is_found_again(server: NatsServer, database: str) -> None:
    """Under load: what was acknowledged comes out, appends fail at once meanwhile, and nobody is started again."""
    accepted: list[int] = []
    failures: list[EventLogUnavailableError | CircuitOpenError] = []
    over = asyncio.Event()
    numbers = iter(range(10**9))

    async def send(log: NatsLog) -> None:
        while not over.is_set():
            mine = [next(numbers) for _ in range(7)]
            try:
                assert await log.append([event(number) for number in mine]) == [ACCEPTED] * 7
                accepted.extend(mine)
            except (EventLogUnavailableError, CircuitOpenError) as error:
                failures.append(error)
                await asyncio.sleep(0.005)

    async def more(than: list[Any], count: int) -> None:
        wanted = len(than) + count
        assert await asyncio.to_thread(until, lambda: len(than) >= wanted)

    async def test() -> None:
        settings = {"CIRCUIT_BREAKER_THRESHOLD": "3", "CIRCUIT_BREAKER_TIMEOUT": "100ms"}
        async with opened(server.url, "KILLED", database, **settings) as log, asyncio.TaskGroup() as group:
            await log.check()
            for _ in range(4):
                group.create_task(send(log))
            for _ in range(3):
                await more(accepted, 500)
                await asyncio.to_thread(server.kill)
                await more(failures, 20)
                await asyncio.to_thread(server.start)
                await more(accepted, 7)
            over.set()
            assert (await eventually(log.backlog)).waiting >= len(accepted)
            taken = Taken()
            await take(log, taken, (await log.backlog()).waiting)
            assert set(accepted) <= set(taken.stocks)
            assert {type(error) for error in failures} == {EventLogUnavailableError, CircuitOpenError}

    run(test())


def test_a_server_that_is_not_there_yet_is_waited_for_by_nobody_and_found_when_it_comes(server: NatsServer) -> None:
    async def test() -> None:
        await asyncio.to_thread(server.kill)
        async with opened(server.url, "LATE", CIRCUIT_BREAKER_THRESHOLD="2", CIRCUIT_BREAKER_TIMEOUT="200ms") as log:
            for _ in range(2):
                with pytest.raises(EventLogUnavailableError):
                    await log.append([event()])
            with pytest.raises(CircuitOpenError):
                await log.append([event()])
            with pytest.raises(EventLogUnavailableError):
                await log.backlog()
            with pytest.raises(EventLogUnavailableError):
                await log.deliver(Taken(), limit=1, wait_seconds=0.01)
            await asyncio.to_thread(server.start)
            assert await eventually(lambda: log.append([event()])) == [ACCEPTED]

    run(test())


def test_a_log_on_a_server_that_never_came_closes(server: NatsServer) -> None:
    async def test() -> None:
        await asyncio.to_thread(server.kill)
        async with opened(server.url, "NEVER") as log:
            with pytest.raises(EventLogUnavailableError):
                await log.check()
        await log.close()
        for use in (log.append([event()]), log.deliver(Taken(), limit=1, wait_seconds=0.01), log.check()):
            with pytest.raises(HandedOverError):
                await use

    run(test())


def test_who_waits_for_an_answer_is_told_when_the_connection_breaks(url: str, stream: str, proxied: Callable[[str], Proxy]) -> None:
    place = urlsplit(url)
    proxy = proxied(f"host={place.hostname} port={place.port}")

    async def test() -> None:
        async with opened(f"nats://127.0.0.1:{proxy.port}", stream, CIRCUIT_BREAKER_TIMEOUT="10ms") as log:
            await log.check()
            assert await log.append([event(1)]) == [ACCEPTED]
            proxy.stall()
            waiting = [asyncio.create_task(log.append([event(number)])) for number in (2, 3)]
            await asyncio.sleep(0.1)
            proxy.cut()
            proxy.resume()
            for append in waiting:
                with pytest.raises(EventLogUnavailableError, match="is away"):  # and not only that no answer came
                    await append
            assert await eventually(lambda: log.append([event(4)])) == [ACCEPTED]

    run(test())


@pytest.mark.parametrize("login", ["us%40er:p%40ss%3A%2F", "t%40ken"])
def test_secrets_come_from_the_url_and_are_shown_to_nobody(login: str, caplog: pytest.LogCaptureFixture) -> None:
    options = ["--user", "us@er", "--pass", "p@ss:/"] if ":" in login else ["--auth", "t@ken"]

    async def test() -> None:
        with nats_server(*options) as server:
            place = server.url.removeprefix("nats://")
            async with opened(f"nats://{login}@{place}", "SECRET") as log:
                assert await log.append([event()]) == [ACCEPTED]
            wrong = "us%40er:wr0ng" if ":" in login else "wr0ng"
            async with opened(f"nats://{wrong}@{place}", "SECRET") as log:
                with pytest.raises(EventLogUnavailableError) as caught:
                    await log.append([event()])
            assert "wr0ng" not in f"{caught.value} {caught.value.details}"

    run(test())
    assert "Authorization" in caplog.text  # it is said what is wrong
    assert not any(secret in caplog.text for secret in ("wr0ng", "p@ss", "p%40ss", "t@ken", "t%40ken"))


def test_a_server_that_no_longer_knows_us_is_asked_again_until_it_does() -> None:
    async def test() -> None:
        with nats_server("--user", "u", "--pass", "right") as server:
            url = server.url.replace("nats://", "nats://u:right@")
            async with opened(url, "KNOWN", CIRCUIT_BREAKER_TIMEOUT="10ms") as log:
                assert await log.append([event(1)]) == [ACCEPTED]
                await asyncio.to_thread(server.kill)
                server.options = ("--user", "u", "--pass", "another")
                await asyncio.to_thread(server.start)
                for _ in range(3):
                    with pytest.raises((EventLogUnavailableError, CircuitOpenError)):
                        await log.append([event(2)])
                    await asyncio.sleep(0.3)
                await asyncio.to_thread(server.kill)
                server.options = ("--user", "u", "--pass", "right")
                await asyncio.to_thread(server.start)
                assert await eventually(lambda: log.append([event(3)])) == [ACCEPTED]

    run(test())


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while said := await reader.read(65536):
            writer.write(said)
    await end(writer)


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def test_a_connection_that_the_server_ends_for_good_is_replaced(url: str, stream: str) -> None:
    """The library gives up where a server says that it no longer knows the user."""
    place = urlsplit(url)
    clients: list[asyncio.StreamWriter] = []
    relayed: list[asyncio.Task[Any] | None] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)
        relayed.append(asyncio.current_task())
        upstream, to_upstream = await asyncio.open_connection(place.hostname, place.port)
        await asyncio.gather(pass_on(reader, to_upstream), pass_on(upstream, writer))

    async def test() -> None:
        relay = await asyncio.start_server(between, "127.0.0.1", 0)
        port = relay.sockets[0].getsockname()[1]
        async with relay, opened(f"nats://127.0.0.1:{port}", stream, CIRCUIT_BREAKER_TIMEOUT="10ms") as log:
            assert await log.append([event(1)]) == [ACCEPTED]
            first = await log._link.client()
            clients[0].write(b"-ERR 'Authorization Violation'\r\n")
            assert await asyncio.to_thread(until, lambda: first.is_closed)
            assert await eventually(lambda: log.append([event(2)])) == [ACCEPTED]
            assert len(clients) == 2
        await asyncio.gather(*(task for task in relayed if task is not None))

    run(test())


@pytest.mark.parametrize("said", [b"x" * 200_000, b"INFO []\r\n"], ids=["no line", "no object"])
@pytest.mark.parametrize("before", [False, True], ids=["from the beginning", "after a connection"])
def test_what_is_no_nats_at_its_place_does_not_stay_there_for_ever(url: str, stream: str, said: bytes, before: bool) -> None:
    """Another program had the port for a while."""
    place = urlsplit(url)
    clients: list[asyncio.StreamWriter] = []
    relayed: list[asyncio.Task[Any] | None] = []
    right, met = before, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)
        relayed.append(asyncio.current_task())
        if right:
            upstream, to_upstream = await asyncio.open_connection(place.hostname, place.port)
            await asyncio.gather(pass_on(reader, to_upstream), pass_on(upstream, writer))
            return
        writer.write(said)
        with suppress(OSError):
            await reader.read()  # until it has had enough
        met.set()
        await end(writer)

    async def test() -> None:
        nonlocal right
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened(f"nats://127.0.0.1:{port}", stream, CIRCUIT_BREAKER_TIMEOUT="10ms") as log:
            if before:
                assert await log.append([event(1)]) == [ACCEPTED]
                right = False
                clients[0].close()
            with pytest.raises(EventLogUnavailableError):
                await log.append([event(2)])
            await asyncio.wait_for(met.wait(), SECONDS)
            right = True
            assert await eventually(lambda: log.append([event(3)])) == [ACCEPTED]
        await asyncio.gather(*(task for task in relayed if task is not None))

    run(test())


def test_no_password_goes_out_in_the_clear_where_the_url_asks_for_tls() -> None:
    """A server in between offers no TLS, and listens."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","headers":true,"max_payload":1048576}\r\n')
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                heard.append(await reader.read(4096))
        writer.close()

    async def test() -> None:
        between = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = between.sockets[0].getsockname()[1]
        async with between, opened(f"tls://u:secret@127.0.0.1:{port}", "TLS") as log:
            with pytest.raises(EventLogUnavailableError):
                await log.append([event()])
        assert heard
        assert not any(b"secret" in said or b"CONNECT" in said for said in heard)

    run(test())


def test_urls_that_do_not_go_together_are_refused() -> None:
    assert servers_of("nats://u:p@a:1, nats://u:p@b").urls == ["nats://a:1", "nats://b"]
    for wrong in ("nats://u:p@a,nats://v:p@b", "nats://a,tls://b"):
        with pytest.raises(SettingsError) as caught:
            servers_of(wrong)
        assert "u:p" not in caught.value.message
