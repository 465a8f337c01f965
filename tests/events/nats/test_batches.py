"""Batches in a process: held through an outage of the database, kept from others, given back, delivered again."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import psycopg
import pytest

from penstock.errors import DatabaseUnavailableError
from penstock.events import nats_log
from penstock.events.model import SETTLED, Entry, Retry, Verdict
from penstock.events.nats.pulling import Batch, Keeper
from tests.events.nats.kit import (
    SECONDS,
    Taken,
    ask,
    event,
    eventually,
    make_consumer,
    opened,
    run,
    take,
)
from tests.support.proxy import Proxy


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


def test_what_is_applied_is_durable_whatever_the_default_is(url: str, stream: str, database: str) -> None:
    """NATS is told to forget it: a crash of the database must not take it back."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = off'.encode())
    found = []

    def use(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        found.append(connection.execute("SHOW synchronous_commit").fetchone())
        return [SETTLED] * len(entries)

    async def test() -> None:
        async with opened(url, stream, database) as log:
            for _ in range(2):  # on a new connection, and on one that was used before
                await log.append([event()])
                while not await log.deliver(use, limit=10, wait_seconds=1):
                    pass

    run(test())
    assert found == [("on",)] * 2


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
        assert slow.wait(SECONDS)
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
                assert await asyncio.to_thread(begun.wait, SECONDS)
                for _ in range(8):  # a quarter of a second each, of a second after which the server hands on
                    assert await other.deliver(quick, limit=10, wait_seconds=1) == 0
            finally:
                slow.set()
            assert await busy == 1
            assert (await eventually(log.backlog)).waiting == 0

    run(test())


def test_whoever_keeps_batches_begins_again() -> None:
    """After whatever ended it: what is not kept goes to others, and is applied twice."""

    async def test() -> None:
        keeper = Keeper()
        keeper.keep(Batch([]), ack_wait=1)
        first = keeper._task
        assert first is not None
        first.cancel()
        await asyncio.wait([first])
        keeper.keep(Batch([]), ack_wait=1)
        assert keeper._task is not None
        assert not keeper._task.done()
        await keeper.end()

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
        assert go_on.wait(SECONDS)
        return [SETTLED] * len(entries)

    async def test() -> None:
        async with opened(url, stream, database) as log:
            await log.append([event(1)])
            delivery = asyncio.create_task(log.deliver(wait, limit=10, wait_seconds=1))
            assert await asyncio.to_thread(begun.wait, SECONDS)
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
        ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", _DELIVER, database], env=env, timeout=SECONDS, check=False)
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
