"""Products are imported and exported while events for them come: all three agree on what is newest."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.service.event_senders import Book, Sent, State, events, parcels, sending
from tests.service.event_site import LOGS, EventSite, event_site
from tests.support.commands import Penstock
from tests.support.serving import Served
from tests.support.waiting import until

COUNT, PRODUCTS, IMPORTED, OTHERS = 8000, 60, 30, 3000


@pytest.fixture(params=LOGS)
def site(request: pytest.FixtureRequest, durable_database: str, run_penstock: Penstock, tmp_path: Path) -> Iterator[EventSite]:
    with event_site(request.param, durable_database, tmp_path, run_penstock) as made:
        yield made


def imported(served: Served) -> set[str]:
    """The first products among many others, at a price that no event has; their ids."""
    ids = [f"p{n}" for n in range(IMPORTED)] + [f"other {n}" for n in range(OTHERS)]
    lines = "".join(json.dumps({"id": each, "price": 123456.78, "stock": 77}) + "\n" for each in ids)
    answer = served.http.post("/v1/imports", data={"resource": "products"}, files={"file": ("products.ndjson", lines)})
    assert answer.status_code == 202, answer.text
    job = answer.json()["job_id"]
    seen: dict[str, Any] = {}

    def ended() -> bool:
        seen.update(served.http.get(f"/v1/imports/{job}").json())
        return seen["status"] not in ("PENDING", "PROCESSING")

    assert until(ended), seen
    assert (seen["status"], seen["failed_rows"]) == ("COMPLETED", 0), seen
    return set(ids)


def exported(served: Served) -> dict[str, State]:
    answer = served.http.get("/v1/exports", params={"resource": "products", "format": "ndjson"})
    assert answer.status_code == 200, answer.text
    rows = [json.loads(line, parse_float=Decimal) for line in answer.text.splitlines()]
    return {row["id"]: (datetime.fromisoformat(row["updated_at"]), Decimal(row["price"]), row["stock"]) for row in rows}


def stored(conninfo: str) -> dict[str, State]:
    with psycopg.connect(conninfo) as connection:
        return {row[0]: row[1:] for row in connection.execute("SELECT id, updated_at, price, stock FROM products")}


def test_an_import_and_exports_among_events(site: EventSite, durable_database: str) -> None:
    """Events from before the import lose against it, those from after it win, and an export never shows what was not true at some time."""
    dice, book = random.Random(7), Book()
    made = events(COUNT, PRODUCTS, dice)
    began = datetime.now(UTC)
    with site.server() as served:
        with sending(served.url, book, parcels(made, dice, single=0.8, most=20), threads=4, again=True) as senders:
            assert until(lambda: len(book.accepted) > COUNT / 4)
            ids = imported(served)
            seen = exported(served)
            assert until(lambda: senders.done)
        assert until(lambda: drained(durable_database, book))
        known = {(event.product_id, event.state) for event in made}
        for product_id, state in seen.items():
            assert (product_id, state) in known or (state[0] >= began and state[1:] == (Decimal("123456.78"), 77)), (product_id, state)
        newest = {f"p{n}": max(event.state for event in made if event.product_id == f"p{n}") for n in range(IMPORTED, PRODUCTS)}
        now = stored(durable_database)
        assert {each: now[each] for each in newest} == newest
        assert {now[each][1:] for each in ids} == {(Decimal("123456.78"), 77)}
        assert all(began <= now[each][0] <= datetime.now(UTC) for each in ids)
        assert now.keys() == newest.keys() | ids

        later = [Sent(f"p{n}", (datetime.now(UTC), Decimal(n), n)) for n in range(PRODUCTS)]
        with sending(served.url, book, [later]) as senders:
            assert until(lambda: senders.done)
        assert until(lambda: drained(durable_database, book))
        assert stored(durable_database) == {**now, **{event.product_id: event.state for event in later}} == exported(served)


def drained(conninfo: str, book: Book) -> bool:
    """Everything that was accepted is counted as applied or surpassed."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT sum(applied + superseded + duplicates) FROM penstock.event_counters").fetchone()
    return row is not None and row[0] >= len(book.accepted)
