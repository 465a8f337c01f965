"""Many product events from many senders in random order, a third of them twice, and two workers of which one dies: as if by one hand.

`PENSTOCK_TEST_EVENTS` says how many.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.event_senders import Book, events, parcels, sending
from tests.service.event_site import LOGS, EventSite, event_site
from tests.support.commands import Penstock
from tests.support.waiting import until

COUNT = int(os.environ.get("PENSTOCK_TEST_EVENTS", "20000"))
PRODUCTS = 100
SENT_TWICE = 0.3
SECONDS = 60 + COUNT / 500


@pytest.fixture(params=LOGS)
def site(request: pytest.FixtureRequest, durable_database: str, run_penstock: Penstock, tmp_path: Path) -> Iterator[EventSite]:
    with event_site(request.param, durable_database, tmp_path, run_penstock) as made:
        yield made


@pytest.mark.timeout(120 + 2 * SECONDS)
def test_many_events_from_many_senders(site: EventSite) -> None:
    dice = random.Random(2024)
    made = events(COUNT, PRODUCTS, dice)
    made += dice.sample(made, int(COUNT * SENT_TWICE))
    dice.shuffle(made)
    book = Book()
    sent = parcels(made, dice, single=0.9, most=200)
    with (
        site.server("--no-worker") as served,
        site.worker() as dying,
        site.worker(),
        sending(served.url, book, sent, again=True) as senders,
    ):
        assert until(lambda: len(book.accepted) > COUNT / 2, SECONDS), book.codes
        dying.process.kill()
        with site.worker():
            assert until(lambda: senders.done, SECONDS), book.codes
            assert not book.codes
            site.check.assert_right(book, SECONDS)
    assert len(book.accepted) + len(book.duplicates) == len(made)
