"""Product events through processes that are killed and stopped: what was answered 202 reaches its product, and is counted once.

The seed is printed; `PENSTOCK_TEST_SEED=<seed>` makes the same choices again.
"""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service.event_senders import Book, events, parcels, sending
from tests.service.event_site import LOGS, EventSite, event_site
from tests.support.commands import Penstock
from tests.support.waiting import until

SEED = "PENSTOCK_TEST_SEED"
KILLS = 6


@pytest.fixture(params=LOGS)
def site(request: pytest.FixtureRequest, durable_database: str, run_penstock: Penstock, tmp_path: Path) -> Iterator[EventSite]:
    with event_site(request.param, durable_database, tmp_path, run_penstock) as made:
        yield made


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1_000_000))
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


@pytest.mark.parametrize("point", ["events-stored:1", "events-stored:20", "events-applied:1", "events-applied:5", "events-committed:3"])
def test_killed_where_it_hurts(site: EventSite, dice: random.Random, point: str) -> None:
    """The server and its worker die in the middle of accepting or applying; the next one goes on with what they had."""
    book, made = Book(), events(2000, 50, dice)
    with (
        site.server(CRASH_AT=point, BATCH_SIZE="50") as served,
        sending(served.url, book, parcels(made, dice, single=0.7, most=20), threads=4),
    ):
        assert served.process.wait(60) == -signal.SIGKILL
    assert book.unknown or not point.startswith("events-stored")  # those that it died with
    with site.server():
        site.check.assert_right(book)


def test_killed_right_after_its_answers(site: EventSite, dice: random.Random) -> None:
    """Nothing was applied by then."""
    book, made = Book(), events(1500, 50, dice)
    with site.server("--no-worker") as served:
        with sending(served.url, book, parcels(made, dice, single=0.7, most=30)) as senders:
            assert until(lambda: senders.done)
        served.process.kill()
        served.process.wait(30)
    assert len(book.accepted) == len(made), book.codes
    assert site.check.faults(book)
    with site.worker():
        site.check.assert_right(book)


def test_killed_at_random_moments(site: EventSite, dice: random.Random) -> None:
    """Server and worker, again and again, while their senders send again what was not taken."""
    book, made = Book(), events(6000, 100, dice)
    with ExitStack() as stack:
        served, worker = stack.enter_context(site.server()), stack.enter_context(site.worker())
        with sending(served.url, book, parcels(made, dice, single=0.8, most=30), again=True) as senders:
            for _ in range(KILLS):
                few = len(book.accepted) + dice.randrange(1000)
                until(lambda few=few: len(book.accepted) > few, 3)  # type: ignore[misc]
                if dice.random() < 0.5:
                    served.process.kill()
                    served.process.wait(30)
                    served = stack.enter_context(site.server())
                    senders.url = served.url
                else:
                    worker.process.kill()
                    worker = stack.enter_context(site.worker())
            assert until(lambda: senders.done, 60)
        assert {event for event in made if event.event_id} <= {*book.accepted, *book.duplicates}
        site.check.assert_right(book)


def test_a_server_that_stops_applies_what_it_accepted(site: EventSite, dice: random.Random) -> None:
    """To the last answer: events keep coming until it listens no more."""
    book, made = Book(), events(60_000, 100, dice)
    with (
        site.server(BATCH_SIZE="200") as served,
        sending(served.url, book, parcels(made, dice, single=0.5, most=200)),
    ):
        assert until(lambda: len(book.accepted) > 3000)
        assert served.stop() == 0
    assert served.logged("events drained", waiting=0), served.lines
    site.check.assert_right_now(book)


def test_a_worker_that_stops_applies_what_waits(site: EventSite, dice: random.Random) -> None:
    book, made = Book(), events(8000, 100, dice)
    with site.server("--no-worker") as served:
        with sending(served.url, book, parcels(made, dice, single=0, most=500)) as senders:
            assert until(lambda: senders.done)
        with site.worker(BATCH_SIZE="100") as worker:
            assert until(lambda: worker.log.says("worker started"))
            worker.process.terminate()
            assert worker.process.wait(30) == 0
        assert worker.log.says("events drained")
        site.check.assert_right_now(book)
