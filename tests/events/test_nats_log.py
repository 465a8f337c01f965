"""What is special about the event log on NATS: its stream, its server's death, held batches, redelivery, who we are there."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats
import psycopg
import pytest

from penstock.database.connect import Database
from penstock.errors import CircuitOpenError, DatabaseUnavailableError, EventLogUnavailableError, HandedOverError, SettingsError
from penstock.events import nats_log
from penstock.events.model import SETTLED, Entry, Event, Outcome, Retry, Unreadable, Verdict
from penstock.events.nats.link import servers_of
from penstock.events.nats.messages import packed, unpacked
from penstock.events.nats_log import NatsLog
from penstock.lifecycle.gate import Gate
from penstock.settings import load_settings
from tests.support.nats import NatsServer, nats_server, nats_url, own_stream
from tests.support.proxy import Proxy
from tests.support.waiting import until

ACCEPTED, DUPLICATE, FULL = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FULL
NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
NOWHERE = "host=/nonexistent dbname=none"
SECOND = 1_000_000_000
_SECONDS = 30
_T = TypeVar("_T")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with nats_url() as found:
        yield found


@pytest.fixture
def stream(url: str) -> Iterator[str]:
    with own_stream(url) as name:
        yield name


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """One that the test may kill."""
    with nats_server() as started:
        yield started


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test

    asyncio.run(bounded())


def event(stock: int = 1, *, product_id: str = "p", event_id: str | None = None) -> Event:
    return Event(product_id=product_id, price=Decimal("49.99"), stock=stock, occurred_at=NOW, accepted_at=NOW, event_id=event_id)


def made(url: str, stream: str, conninfo: str = NOWHERE, **settings: str) -> NatsLog:
    env = {"NATS_URL": url, "NATS_STREAM": stream, **settings}
    return NatsLog(Database(conninfo), load_settings(env, Path("/nonexistent")), gate=Gate(4))


@asynccontextmanager
async def opened(url: str, stream: str, conninfo: str = NOWHERE, **settings: str) -> AsyncIterator[NatsLog]:
    log = made(url, stream, conninfo, **settings)
    try:
        yield log
    finally:
        await log.close()


async def ask(url: str, subject: str, body: Any = None) -> dict[str, Any]:
    """JetStream's API, as an operator uses it."""
    client = await nats.connect(url)
    try:
        answer = await client.request(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode(), timeout=5)
    finally:
        await client.close()
    decoded: dict[str, Any] = json.loads(answer.data)
    assert "error" not in decoded, decoded
    return decoded


async def make_consumer(url: str, stream: str, **config: Any) -> None:
    """With `ack_wait` of a second, so that what nobody settles comes again soon."""
    wanted = {"durable_name": "penstock", "ack_policy": "explicit", "max_deliver": -1, "ack_wait": SECOND, **config}
    await ask(url, f"CONSUMER.DURABLE.CREATE.{stream}.penstock", {"stream_name": stream, "config": wanted})


async def eventually(action: Callable[[], Awaitable[_T]]) -> _T:
    """What it returns once it no longer finds its server away."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with suppress(EventLogUnavailableError, DatabaseUnavailableError):
                return await action()
            await asyncio.sleep(0.02)


class Taken:
    """A handle that notes what it was given and answers the same for each."""

    def __init__(self, verdict: Verdict = SETTLED) -> None:
        self.entries: list[Entry] = []
        self._verdict = verdict

    def __call__(self, _connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        self.entries += entries
        return [self._verdict] * len(entries)

    @property
    def stocks(self) -> list[int]:
        return [entry.content.stock for entry in self.entries if isinstance(entry.content, Event)]


async def take(log: NatsLog, taken: Taken, count: int) -> None:
    """Until it has been given so many."""
    async with asyncio.timeout(_SECONDS):
        while len(taken.entries) < count:
            await log.deliver(taken, limit=100, wait_seconds=0.1)


# The stream


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"discard": "old"}, "discard"),
        ({"storage": "memory"}, "storage"),
        ({"retention": "limits"}, "retention"),
        ({"retention": "interest"}, "retention"),
        ({"max_age": 3600 * SECOND}, "max_age"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject"),
        ({"no_ack": True}, "no_ack"),
        ({"subjects": ["{stream}.other"]}, "subjects"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_stream_that_would_lose_events_is_refused(url: str, stream: str, change: dict[str, Any], said: str) -> None:
    config = {"name": stream, "subjects": [f"{stream}.product"], "retention": "workqueue", "discard": "new", "max_msgs": 10, **change}
    config["subjects"] = [subject.format(stream=stream) for subject in config["subjects"]]

    async def test() -> None:
        await ask(url, f"STREAM.CREATE.{stream}", config)
        async with opened(url, stream) as log:
            with pytest.raises(SettingsError, match=said):
                await log.check()
            with pytest.raises(EventLogUnavailableError, match=said):  # whoever sends events has done nothing wrong
                await log.append([event()])
            assert (await ask(url, f"STREAM.INFO.{stream}"))["state"]["messages"] == 0

    run(test())


@pytest.mark.parametrize(("change", "said"), [({"max_deliver": 5}, "max_deliver"), ({"filter_subject": "{stream}.x"}, "filter_subject")])
def test_a_consumer_that_would_hold_back_events_is_refused(url: str, stream: str, change: dict[str, Any], said: str) -> None:
    async def test() -> None:
        subjects = [f"{stream}.product"]
        await ask(url, f"STREAM.CREATE.{stream}", {"name": stream, "subjects": subjects, "retention": "workqueue", "discard": "new"})
        if "filter_subject" in change:
            await ask(
                url,
                f"STREAM.UPDATE.{stream}",
                {"name": stream, "subjects": [*subjects, f"{stream}.x"], "retention": "workqueue", "discard": "new"},
            )
        await make_consumer(
            url, stream, **{name: value.format(stream=stream) if isinstance(value, str) else value for name, value in change.items()}
        )
        if "filter_subject" in change:
            await ask(url, f"STREAM.UPDATE.{stream}", {"name": stream, "subjects": subjects, "retention": "workqueue", "discard": "new"})
        async with opened(url, stream) as log:
            with pytest.raises(SettingsError, match=said):
                await log.check()

    run(test())


def test_what_an_operator_chose_stays_and_the_bound_follows(url: str, stream: str) -> None:
    async def test() -> None:
        async with opened(url, stream, QUEUE_SIZE="5000") as log:
            await log.check()
        config = (await ask(url, f"STREAM.INFO.{stream}"))["config"]
        assert (config["max_msgs"], config["storage"], config["discard"], config["retention"]) == (5000, "file", "new", "workqueue")
        await ask(url, f"STREAM.UPDATE.{stream}", {**config, "duplicate_window": 60 * SECOND, "description": "ours"})
        await make_consumer(url, stream, ack_wait=7 * SECOND, max_ack_pending=100_000)
        async with opened(url, stream, QUEUE_SIZE="9000") as log:
            await log.check()
        config = (await ask(url, f"STREAM.INFO.{stream}"))["config"]
        assert (config["max_msgs"], config["duplicate_window"], config["description"]) == (9000, 60 * SECOND, "ours")
        consumer = (await ask(url, f"CONSUMER.INFO.{stream}.penstock"))["config"]
        assert consumer["ack_wait"] == 7 * SECOND

    run(test())


def test_a_lower_bound_removes_nothing_that_was_accepted(url: str, stream: str) -> None:
    async def test() -> None:
        async with opened(url, stream, QUEUE_SIZE="5000") as log:
            assert await log.append([event(number) for number in range(20)]) == [ACCEPTED] * 20
        async with opened(url, stream, QUEUE_SIZE="10") as log:
            await log.check()
            assert (await log.backlog()).waiting == 20
        async with opened(url, stream, QUEUE_SIZE="2000") as log:
            await log.check()
            assert (await log.backlog()).waiting == 20
            assert (await ask(url, f"STREAM.INFO.{stream}"))["config"]["max_msgs"] == 2000

    run(test())


def test_a_stream_that_was_deleted_is_made_again(url: str, stream: str, database: str) -> None:
    async def test() -> None:
        async with opened(url, stream, database, CIRCUIT_BREAKER_TIMEOUT="10ms") as log:
            await log.append([event()])
            await ask(url, f"STREAM.DELETE.{stream}")
            with pytest.raises(EventLogUnavailableError):
                await log.append([event(2)])
            assert await eventually(lambda: log.append([event(3)])) == [ACCEPTED]
            await ask(url, f"CONSUMER.DELETE.{stream}.penstock")
            taken = Taken()
            await eventually(lambda: take(log, taken, 1))
            assert taken.stocks == [3]

    run(test())


def test_ids_that_a_header_cannot_hold_stay_apart(url: str, stream: str) -> None:
    ids = ["a", " a", "a ", "a\r\nNats-Msg-Id: b", "b", "a\n", "ä", "%C3%A4", "a:b", "😀", "a%0A"]

    async def test() -> None:
        async with opened(url, stream) as log:
            assert await log.append([event(event_id=name) for name in ids]) == [ACCEPTED] * len(ids)
            assert await log.append([event(event_id=name) for name in ids]) == [DUPLICATE] * len(ids)
            assert await log.append([event(event_id=name) for name in ids], again=True) == [ACCEPTED] * len(ids)

    run(test())


# Outages of NATS


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


# Outages of the database, and batches in this process


def test_an_outage_of_the_database_counts_as_no_attempt(
    url: str, stream: str, database: str, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_log, "_HELD_SECONDS", 0.0)  # only that others get on would make this process let go
    proxy = proxied(database)

    def use(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError("away") from error
        return taken(connection, entries)

    taken = Taken()

    async def test() -> None:
        async with opened(url, stream, proxy.conninfo) as log:
            await log.append([event(number) for number in range(5)])
            await log.append([event(9)])
            await log.deliver(Taken(Retry(0.0)), limit=1, wait_seconds=0.1)  # leaves an open connection, and one attempt
            proxy.refuse()
            proxy.cut()
            for _ in range(4):
                with pytest.raises(DatabaseUnavailableError):
                    await log.deliver(use, limit=10, wait_seconds=1)
            proxy.accept()
            while len(taken.entries) < 6:
                await log.deliver(use, limit=10, wait_seconds=0.1)
            assert sorted((entry.attempts, stock) for entry, stock in zip(taken.entries, taken.stocks, strict=True)) == [
                (0, 1), (0, 2), (0, 3), (0, 4), (0, 9), (1, 0),
            ]  # fmt: skip

    run(test())


def test_what_only_this_process_cannot_apply_goes_to_another(
    url: str, stream: str, database: str, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_log, "_HELD_SECONDS", 0.0)
    proxy = proxied(database)
    proxy.refuse()

    async def test() -> None:
        async with opened(url, stream, proxy.conninfo) as cut_off, opened(url, stream, database) as other:
            await cut_off.append([event(1)])
            with pytest.raises(DatabaseUnavailableError):
                await cut_off.deliver(Taken(), limit=10, wait_seconds=1)
            taken = Taken()
            await other.append([event(2)])
            await take(other, taken, 1)
            assert taken.stocks == [2]
            with pytest.raises(DatabaseUnavailableError):
                await cut_off.deliver(Taken(), limit=10, wait_seconds=1)
            await take(other, taken, 2)
            assert taken.stocks == [2, 1]

    run(test())


def test_what_takes_longer_than_the_server_waits_stays_with_its_worker(url: str, stream: str, database: str) -> None:
    begun, slow, quick = threading.Event(), threading.Event(), Taken()

    def wait(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        begun.set()
        assert slow.wait(_SECONDS)
        return [SETTLED] * len(entries)

    async def test() -> None:
        async with opened(url, stream, database) as log:
            await log.check()
        await ask(url, f"CONSUMER.DELETE.{stream}.penstock")
        await make_consumer(url, stream)
        async with opened(url, stream, database) as log, opened(url, stream, database) as other:
            await log.append([event(1)])
            busy = asyncio.create_task(log.deliver(wait, limit=10, wait_seconds=2))  # longer than the server waits too
            try:
                assert await asyncio.to_thread(begun.wait, _SECONDS)
                for _ in range(8):  # a quarter of a second each, of a second after which the server hands on
                    assert await other.deliver(quick, limit=10, wait_seconds=1) == 0
            finally:
                slow.set()
            assert await busy == 1
            assert (await eventually(log.backlog)).waiting == 0

    run(test())


def test_closing_gives_back_at_once_what_is_held(url: str, stream: str, database: str) -> None:
    def broken(_connection: psycopg.Connection, _entries: Sequence[Entry]) -> list[Verdict]:
        raise DatabaseUnavailableError("away")

    async def test() -> None:
        async with opened(url, stream, database) as log, opened(url, stream, database) as other:
            await log.append([event(1), event(2)])
            with pytest.raises(DatabaseUnavailableError):
                await log.deliver(broken, limit=10, wait_seconds=0.2)
            assert await other.deliver(Taken(), limit=10, wait_seconds=0.1) == 0
            await log.close()
            taken = Taken()
            async with asyncio.timeout(10):  # the server alone would wait for 30 s
                await take(other, taken, 2)
            assert taken.stocks == [1, 2]

    run(test())


def test_a_cancelled_delivery_is_settled_all_the_same(url: str, stream: str, database: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        begun.set()
        assert go_on.wait(_SECONDS)
        return [SETTLED] * len(entries)

    async def test() -> None:
        async with opened(url, stream, database) as log:
            await log.append([event(1)])
            delivery = asyncio.create_task(log.deliver(wait, limit=10, wait_seconds=1))
            assert await asyncio.to_thread(begun.wait, _SECONDS)
            delivery.cancel()
            with pytest.raises(asyncio.CancelledError):
                await delivery
            go_on.set()
        async with opened(url, stream, database) as log:
            assert (await log.backlog()).waiting == 0

    run(test())


_DELIVER = """
import asyncio, sys
from pathlib import Path
from penstock.database.connect import Database
from penstock.events.model import SETTLED
from penstock.events.nats_log import NatsLog
from penstock.lifecycle.gate import Gate
from penstock.settings import load_settings

def note(connection, entries):
    for entry in entries:
        connection.execute("INSERT INTO applied VALUES (%s, %s)", [entry.content.stock, entry.attempts])
    return [SETTLED] * len(entries)

async def main():
    log = NatsLog(Database(sys.argv[1]), load_settings(env_file=Path("/nonexistent")), gate=Gate(4))
    while True:
        await log.deliver(note, limit=10, wait_seconds=0.2)

asyncio.run(main())
"""


def test_a_process_that_dies_between_commit_and_acknowledgement_leaves_them_to_others(url: str, stream: str, database: str) -> None:
    env = {**os.environ, "NATS_URL": url, "NATS_STREAM": stream, "CRASH_AT": "events-committed"}

    async def test() -> None:
        async with opened(url, stream, database) as log:
            await log.check()
            await ask(url, f"CONSUMER.DELETE.{stream}.penstock")
            await make_consumer(url, stream)
            await log.append([event(1), event(2), event(3)])
        ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", _DELIVER, database], env=env, timeout=_SECONDS, check=False)
        assert ended.returncode == -signal.SIGKILL
        async with opened(url, stream, database) as log:
            assert (await log.backlog()).waiting == 3
            taken = Taken()
            await take(log, taken, 3)
            assert [entry.attempts for entry in taken.entries] == [1, 1, 1]

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE applied (stock integer, attempts integer)")
        run(test())
        assert connection.execute("SELECT stock FROM applied ORDER BY stock").fetchall() == [(1,), (2,), (3,)]


# Messages


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no event"),
        (b"\xff\xfe", "no event"),
        (b"{}", "no event"),
        (b'{"v":2,"event":{"new":1}}', "version is 2"),
        (packed(event()).replace(b'"stock":1', b'"stock":2147483648'), "stock"),
        (packed(event()).replace(b"49.99", b"49.999"), "price"),
        (packed(event()).replace(b"49.99", b"NaN"), "price"),
        (packed(event()).replace(b"49.99", b"1E+99"), "price"),
        (packed(event()).replace(b'"p"', rb'"\u0000"'), "NUL"),
        (packed(event()).replace(b"123456Z", b"123456"), "zone"),
    ],
    ids=["empty", "binary", "empty-object", "version", "stock", "price", "nan", "huge", "nul", "zone"],
)
def test_what_is_no_event_is_delivered_as_unreadable(body: bytes, said: str, url: str, stream: str, database: str) -> None:
    async def test() -> None:
        async with opened(url, stream, database) as log:
            await log.append([event(1)])
            client = await nats.connect(url)
            await client.jetstream().publish(f"{stream}.product", body)
            await client.close()
            await log.append([event(2)])
            taken = Taken()
            await take(log, taken, 3)
            assert taken.stocks == [1, 2]
            unreadable = taken.entries[1].content
            assert isinstance(unreadable, Unreadable)
            assert unreadable.raw == body
            assert said in unreadable.reason
            assert (await eventually(log.backlog)).waiting == 0

    run(test())


@pytest.mark.parametrize("price", ["0", "0.00", "-1.5", "9999999999.99", "0.1"])
def test_an_event_survives_the_way_exactly(price: str) -> None:
    sent = Event(product_id='\t"\\😀\n', price=Decimal(price), stock=-(2**31), occurred_at=NOW, accepted_at=NOW, event_id="\\N")
    got = unpacked(packed(sent))
    assert got == sent
    assert isinstance(got, Event)
    assert str(got.price) == price


# Who we are there


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


def test_a_connection_that_the_server_ends_for_good_is_replaced(url: str, stream: str) -> None:
    """The library gives up where a server says that it no longer knows the user."""
    place = urlsplit(url)
    clients: list[asyncio.StreamWriter] = []
    relayed: list[asyncio.Task[Any] | None] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(65536):
                writer.write(said)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

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
