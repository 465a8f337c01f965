"""PostgreSQL or NATS is away for some seconds while product events come: senders are told, nothing accepted is lost, all goes on by itself.

`PENSTOCK_TEST_OUTAGE_SECONDS` says for how long.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.database.embedded import EmbeddedPostgres
from tests.service.event_senders import Book, Parcel, events, parcels, sending
from tests.service.event_site import event_site
from tests.support.commands import Penstock
from tests.support.nats import nats_server
from tests.support.serving import Served
from tests.support.waiting import until

AWAY_SECONDS = float(os.environ.get("PENSTOCK_TEST_OUTAGE_SECONDS", "3"))


@pytest.fixture
def postgresql(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may stop: for Penstock it is somebody else's."""
    with EmbeddedPostgres(data_dir) as server:
        yield server


def _more(name: str) -> list[Parcel]:
    dice = random.Random(name)
    return parcels(events(3000, 50, dice, name=name), dice, single=0.9, most=30)


@pytest.mark.parametrize("kind", ["postgresql", "nats"])
@pytest.mark.timeout(180 + 2 * AWAY_SECONDS)
def test_the_database_is_away(kind: str, postgresql: EmbeddedPostgres, run_penstock: Penstock, tmp_path: Path) -> None:
    """Where it keeps the events they are refused meanwhile, with a time to come back; where NATS does they are accepted."""
    book = Book()
    with event_site(kind, postgresql.conninfo, tmp_path, run_penstock) as site, site.server() as served:
        with sending(served.url, book, _more("before"), again=True) as senders:
            assert until(lambda: len(book.accepted) > 1000)
            postgresql._cluster.stop()
            senders.waiting.extend(_more("meanwhile"))
            time.sleep(AWAY_SECONDS)
            refused = dict(book.codes)
            postgresql._cluster.start()
            assert until(lambda: senders.done, 60), book.codes
        if kind == "postgresql":
            assert refused.get("circuit_open"), refused
        assert served.process.poll() is None
        site.check.assert_right(book)


@pytest.mark.timeout(180 + 2 * AWAY_SECONDS)
def test_nats_is_away(durable_database: str, run_penstock: Penstock, tmp_path: Path) -> None:
    """What it had lies on its disk; that it is away is seen by whoever looks after the server."""
    book = Book()
    with (
        nats_server() as server,
        event_site("nats", durable_database, tmp_path, run_penstock, nats_at=server.url) as site,
        site.server() as served,
        sending(served.url, book, _more("before"), again=True) as senders,
    ):
        assert until(lambda: len(book.accepted) > 1000)
        assert served.http.get("/health").json()["checks"]["events"]["status"] == "ok"
        server.kill()
        senders.waiting.extend(_more("meanwhile"))
        assert until(lambda: book.codes["circuit_open"])
        assert until(lambda: _events_check(served) == "failed")
        time.sleep(AWAY_SECONDS)
        server.start()
        assert until(lambda: senders.done, 60), book.codes
        assert until(lambda: _events_check(served) == "ok")
        assert served.process.poll() is None
        site.check.assert_right(book)


def _events_check(served: Served) -> str:
    return str(served.http.get("/health").json()["checks"]["events"]["status"])
