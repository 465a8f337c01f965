"""Metrics: true of the whole service where they say so, and there while the database is away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.commands import Penstock
from tests.support.proxy import Proxy
from tests.support.serving import Served, serving
from tests.support.waiting import until

EVENT: dict[str, Any] = {"product_id": "abc123", "price": 49.99, "stock": 100}
SHARED = (
    "penstock_events_waiting", "penstock_events_oldest_age_seconds", "penstock_events_applied_total", "penstock_events_superseded_total",
    "penstock_events_duplicates_total", "penstock_events_retried_total", "penstock_events_dead_total", "penstock_dead_letters",
)  # fmt: skip
_OPEN = "penstock_event_circuit_open"


def read(http: httpx.Client) -> dict[str, float]:
    """By name; with labels, by name and the label's value."""
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = (sample for family in text_string_to_metric_families(answer.text) for sample in family.samples)
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


def comes(http: httpx.Client, **wanted: float) -> bool:
    """Whether they become so; what the database knows is looked up once a second."""
    return until(lambda: wanted.items() <= read(http).items(), 10)


@pytest.fixture
def stored(served: Served, conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for table in ("events", "event_retries", "dead_letters"):
            connection.execute(f"DELETE FROM penstock.{table}".encode())
        yield connection


def test_events_are_counted(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """Those that are accepted and refused here, and what waits anywhere."""
    before = read(http)
    assert http.post("/v1/events", json=EVENT).status_code == 202
    assert http.post("/v1/events/batch", json=[EVENT, {}, {}, EVENT]).status_code == 202
    assert http.post("/v1/events", json={}).status_code == 400
    assert http.post("/v1/events/batch", json=[{}, {}]).status_code == 400
    assert http.post("/v1/events", content=b"").status_code == 415
    assert comes(http, penstock_events_waiting=3)
    found = read(http)
    changed = {
        name: found[name] - before.get(name, 0) for name in found if name.startswith(("penstock_events_accepted", "penstock_events_re"))
    }
    assert changed == {
        "penstock_events_accepted_total": 3,
        "penstock_events_refused_total invalid_event": 4,  # two of a batch, one, and a batch as a whole
        "penstock_events_refused_total queue_full": 0,
        "penstock_events_refused_total unsupported_media_type": 1,
        "penstock_events_retried_total": 0,
    }
    assert found["penstock_events_oldest_age_seconds"] > 0
    stored.execute("DELETE FROM penstock.events")
    assert comes(http, penstock_events_waiting=0, penstock_events_oldest_age_seconds=0)


def test_what_the_workers_count_is_shown(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """The sums over all rows of the counters, and how many dead letters there are."""
    stored.execute("UPDATE penstock.event_counters SET applied = 1, superseded = 2, duplicates = 3, retried = 4, dead = 5 WHERE slot < 10")
    stored.execute("INSERT INTO penstock.dead_letters (raw, code, reason, attempts) VALUES ('x', 'invalid_event', 'no', 1)")
    wanted = {"applied": 10, "superseded": 20, "duplicates": 30, "retried": 40, "dead": 50}
    assert comes(http, penstock_dead_letters=1, **{f"penstock_events_{name}_total": value for name, value in wanted.items()})


@pytest.fixture
def away(environment: dict[str, str], conninfo: str, folder: Path, served: Served) -> Iterator[tuple[Served, Proxy]]:
    """Another server of the same database, and what its connections go through."""
    penstock = Penstock(folder)
    try:
        with Proxy(conninfo) as proxy:
            settings = {"DATABASE_URL": proxy.conninfo, "CIRCUIT_BREAKER_THRESHOLD": "2", "CIRCUIT_BREAKER_TIMEOUT": "1s"}
            with serving(penstock, "--no-worker", env=environment | settings) as found:
                yield found, proxy
    finally:
        penstock.end()


def test_they_are_there_while_the_database_is_away(http: httpx.Client, stored: psycopg.Connection[Any], away: tuple[Served, Proxy]) -> None:
    """What was known last stays; the circuit opens, events are told when to come again, and it closes by itself."""
    other, proxy = away
    stored.execute("UPDATE penstock.event_counters SET applied = 7 WHERE slot = 0")
    assert other.http.post("/v1/events", json=EVENT).status_code == 202
    assert comes(other.http, penstock_events_waiting=1)
    assert comes(http, penstock_events_waiting=1)
    one, two = read(http), read(other.http)
    assert {name: one[name] for name in SHARED if "age" not in name} == {name: two[name] for name in SHARED if "age" not in name}
    assert (two["penstock_events_accepted_total"], max(two[name] for name in two if name.startswith(_OPEN))) == (1, 0)

    proxy.refuse()
    proxy.cut()
    answers = [other.http.post("/v1/events", json=EVENT) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {503}
    assert answers[-1].json()["error"]["code"] == "circuit_open"
    assert answers[-1].headers["retry-after"] == "1"
    found = read(other.http)
    assert {name: found[name] for name in SHARED if "age" not in name} == {name: two[name] for name in SHARED if "age" not in name}
    assert max(found[name] for name in found if name.startswith(_OPEN)) == 1
    refused = sum(found[name] for name in found if name.startswith("penstock_events_refused_total"))
    assert refused == 3

    proxy.accept()
    assert until(lambda: other.http.post("/v1/events", json=EVENT).status_code == 202, 10)
    assert comes(other.http, penstock_events_waiting=2)
    assert max(value for name, value in read(other.http).items() if name.startswith(_OPEN)) == 0
