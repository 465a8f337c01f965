"""A process of its own for tests that kill it: `python -m tests.events.dying append|deliver|stall`, on the database of DATABASE_URL."""

import asyncio
import sys
import time
from collections.abc import Sequence

import psycopg

from penstock.database.connect import Database
from penstock.events.model import SETTLED, Entry, Event, Verdict
from penstock.events.postgres_log import PostgresLog
from penstock.lifecycle.gate import Gate
from penstock.settings import load_settings
from tests.events.conftest import event


def note(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
    """Write them to the table `seen`."""
    stocks = [entry.content.stock for entry in entries if isinstance(entry.content, Event)]
    connection.execute("INSERT INTO seen SELECT unnest(%s::integer[])", [stocks])
    return [SETTLED] * len(entries)


def stall(connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
    """Say that they are there, and hang."""
    note(connection, entries)
    print("taken", flush=True)  # noqa: T201 - for the test
    time.sleep(100)
    return [SETTLED] * len(entries)


async def main(what: str) -> None:
    settings = load_settings()
    assert settings.database_url is not None
    log = PostgresLog(Database(settings.database_url.get_secret_value()), settings, gate=Gate(1))
    if what == "append":
        await log.append([event(n) for n in range(3)])
    else:
        await log.deliver(stall if what == "stall" else note, limit=100, wait_seconds=0.05)
    await log.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
