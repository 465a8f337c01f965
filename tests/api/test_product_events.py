"""Product events over HTTP: stored before they are answered, refused by name, one or many at once."""

import gzip
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from penstock.api.bodies import Room
from penstock.api.problems import rendered
from penstock.errors import CircuitOpenError, EventLogUnavailableError, OverloadedError, PenstockError, QueueFullError
from tests.support.commands import Penstock
from tests.support.serving import Served, serving

EVENT: dict[str, Any] = {"product_id": "abc123", "price": 49.99, "stock": 100}
# The plain address goes the short road; what the router has to tidy up first, the long one.
ROADS = ["/v1/events", "/api/v1/events", "/v1/events/"]
JSON, NDJSON = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}
IDLE_SECONDS = 1


@pytest.fixture(scope="module")
def environment(conninfo: str, folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(folder / "data"), "UPLOAD_IDLE_SECONDS": str(IDLE_SECONDS)}


@pytest.fixture
def stored(served: Served, conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """The database with no event in it."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM penstock.events")
        connection.execute("DELETE FROM penstock.event_ids")
        yield connection


def waiting(stored: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return stored.execute("SELECT product_id, price, stock, event_id FROM penstock.events ORDER BY position").fetchall()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()["error"]
    return found


@pytest.mark.parametrize("road", ROADS)
def test_an_event_is_stored_before_it_is_answered(http: httpx.Client, stored: psycopg.Connection[Any], road: str) -> None:
    """Exactly as it was sent, and the answer repeats its event_id."""
    answer = http.post(road, json=EVENT)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "event_id": None})
    named = http.post(road, json=EVENT | {"event_id": 'a "\u20ac"', "price": 1, "occurred_at": "2026-03-02T09:30:00+01:00"})
    assert (named.status_code, named.json()) == (202, {"status": "accepted", "event_id": 'a "\u20ac"'})
    assert waiting(stored) == [("abc123", Decimal("49.99"), 100, None), ("abc123", Decimal("1.00"), 100, 'a "\u20ac"')]
    assert stored.execute("SELECT occurred_at = '2026-03-02 08:30Z' FROM penstock.events ORDER BY position").fetchall() == [
        (False,),
        (True,),
    ]


@pytest.mark.parametrize("road", ROADS)
def test_an_event_that_was_applied_is_a_duplicate(http: httpx.Client, stored: psycopg.Connection[Any], road: str) -> None:
    """By its event_id; it is not stored again."""
    stored.execute("INSERT INTO penstock.event_ids (event_id) VALUES ('e-1')")
    answer = http.post(road, json=EVENT | {"event_id": "e-1"})
    assert (answer.status_code, answer.json()) == (202, {"status": "duplicate", "event_id": "e-1"})
    assert waiting(stored) == []


@pytest.mark.parametrize("road", ROADS)
def test_answers_are_those_of_every_route(http: httpx.Client, road: str) -> None:
    """With the request's id and the headers that protect, whether it is taken or not."""
    for event, status in ((EVENT, 202), ({}, 400)):
        answer = http.post(road, json=event, headers={"X-Request-ID": "mine"})
        assert answer.status_code == status
        assert answer.headers["x-request-id"] == "mine"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["content-length"]) == len(answer.content)
    assert (answer.json()["request_id"], answer.json()["instance"]) == ("mine", road)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b'{"product_id": "a", "price": 1.999, "stock": 1}', JSON, 400, "invalid_event"),
        (b"", JSON, 400, "invalid_event"),
        (b"[]", JSON, 400, "invalid_event"),
        (b"\xff", JSON, 400, "invalid_event"),
        (b" " * 65_537, JSON, 413, "payload_too_large"),
        (msgspec.json.encode(EVENT), {}, 415, "unsupported_media_type"),
        (msgspec.json.encode(EVENT), NDJSON, 415, "unsupported_media_type"),
        (msgspec.json.encode(EVENT), {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (gzip.compress(msgspec.json.encode(EVENT)), JSON | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (msgspec.json.encode(EVENT), JSON | {"Origin": "http://elsewhere.example"}, 403, "cross_site_request"),
        (msgspec.json.encode(EVENT), JSON | {"Host": "elsewhere.example"}, 421, "unknown_host"),
    ],
)
def test_both_roads_refuse_the_same(
    http: httpx.Client, stored: psycopg.Connection[Any], road: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """And nothing is stored."""
    answer = http.post(road, content=body, headers=headers)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert waiting(stored) == []


@pytest.mark.parametrize("road", ROADS)
def test_a_refusal_names_the_field(http: httpx.Client, road: str) -> None:
    """What is wrong with it, and what is allowed."""
    error = error_of(http.post(road, json=EVENT | {"stock": -1}))
    assert error["message"] == "stock must be a whole number from 0 to 2147483647."
    assert error["details"] == {"field": "stock", "problem": "out_of_range", "allowed": "a whole number from 0 to 2147483647"}


@pytest.mark.parametrize("road", ROADS)
def test_json_may_say_its_charset_and_come_in_pieces(http: httpx.Client, stored: psycopg.Connection[Any], road: str) -> None:
    """Chunked, without a length."""
    body = msgspec.json.encode(EVENT)
    answer = http.post(road, content=iter([body[:10], body[10:]]), headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status_code == 202
    too_long = http.post(road, content=iter([b" " * 40_000] * 2), headers=JSON)
    assert (too_long.status_code, error_of(too_long)["code"]) == (413, "payload_too_large")
    assert len(waiting(stored)) == 1


@pytest.mark.parametrize("road", ROADS)
def test_what_does_not_come_is_not_waited_for(served: Served, stored: psycopg.Connection[Any], road: str) -> None:
    """408 after UPLOAD_IDLE_SECONDS; a client that leaves in the middle has sent nothing."""
    head = f"POST {road} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n".encode()
    address = ("127.0.0.1", httpx.URL(served.url).port or 0)
    with socket.create_connection(address, timeout=10) as raw:
        raw.sendall(head + b'{"product_id"')
        assert raw.recv(4000).startswith(b"HTTP/1.1 408 ")
    with socket.create_connection(address, timeout=10) as raw:
        raw.sendall(head + msgspec.json.encode(EVENT))
    assert served.http.post(road, json=EVENT).status_code == 202
    assert len(waiting(stored)) == 1


def test_parameters_are_refused(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """There are none."""
    answer = http.post("/v1/events?product_id=x", json=EVENT)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_option")
    assert waiting(stored) == []


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/batch"])
def test_events_are_only_posted(http: httpx.Client, path: str) -> None:
    """Everything else is told so."""
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        answer = http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


def test_only_refusals_are_in_the_log(served: Served, http: httpx.Client) -> None:
    """There may be ten thousand lines a second of the others."""
    http.post("/v1/events", json=EVENT, headers={"X-Request-ID": "good-event"})
    http.post("/v1/events", json=EVENT | {"colour": "red"}, headers={"X-Request-ID": "bad-event"})
    assert served.logged("request", request_id="bad-event", route="/v1/events", status=400)
    assert not any(line.get("request_id") == "good-event" for line in served.lines)
    assert not any("red" in str(line) for line in served.lines)


BATCH: list[Any] = [EVENT, EVENT | {"event_id": "known"}, EVENT | {"price": -1}, 5, EVENT | {"product_id": "other", "event_id": "new"}]
RESULTS = [("accepted", None), ("duplicate", "known"), ("rejected", None), ("rejected", None), ("accepted", "new")]


@pytest.mark.parametrize("form", ["array", "lines"])
def test_each_event_of_a_batch_is_answered(http: httpx.Client, stored: psycopg.Connection[Any], form: str) -> None:
    """In their order; a wrong one holds up no other."""
    stored.execute("INSERT INTO penstock.event_ids (event_id) VALUES ('known')")
    lines = b"\n\n" + b"\r\n".join(map(msgspec.json.encode, BATCH))
    body, headers = (msgspec.json.encode(BATCH), JSON) if form == "array" else (lines, NDJSON)
    answer = http.post("/v1/events/batch", content=body, headers=headers)
    assert answer.status_code == 202
    told = answer.json()
    assert {name: told[name] for name in told if name != "results"} == {"accepted": 2, "duplicates": 1, "rejected": 2, "not_stored": 0}
    assert [(result["status"], result["event_id"]) for result in told["results"]] == RESULTS
    assert [result["index"] for result in told["results"]] == [0, 1, 2, 3, 4]
    assert [result.get("line") for result in told["results"]] == ([None] * 5 if form == "array" else [3, 4, 5, 6, 7])
    errors = [result["error"] for result in told["results"] if "error" in result]
    assert [(error["code"], error["details"]["field"]) for error in errors] == [("invalid_event", "price"), ("invalid_event", None)]
    assert [row[0] for row in waiting(stored)] == ["abc123", "other"]


def test_a_line_that_is_no_json_spoils_only_itself(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """Nor does one that is no UTF-8."""
    body = b'{"product_id": "a\n' + msgspec.json.encode(EVENT) + b'\n{"product_id": "\xff"}'
    told = http.post("/v1/events/batch", content=body, headers=NDJSON).json()
    assert [result["status"] for result in told["results"]] == ["rejected", "accepted", "rejected"]
    assert len(waiting(stored)) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", JSON, 400, "invalid_event"),
        (b"", NDJSON, 400, "invalid_event"),
        (b"\n \n", NDJSON, 400, "invalid_event"),
        (b"[]", JSON, 400, "invalid_event"),
        (b"{}", JSON, 400, "invalid_event"),
        (b"[" + msgspec.json.encode(EVENT), JSON, 400, "invalid_event"),
        (b"[1,2]", JSON, 400, "invalid_event"),
        (b"\n".join([b"1"] * 10_001), NDJSON, 413, "payload_too_large"),
        (b"[" + b",".join([b"1"] * 10_001) + b"]", JSON, 413, "payload_too_large"),
        (b" " * (16 * 1024 * 1024 + 1), JSON, 413, "payload_too_large"),
        (b"[]", {}, 415, "unsupported_media_type"),
        (b"product_id,price,stock\na,1,1\n", {"Content-Type": "text/csv"}, 415, "unsupported_media_type"),
        (gzip.compress(b"[]"), NDJSON | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
def test_a_batch_that_is_none_is_refused(
    http: httpx.Client, stored: psycopg.Connection[Any], body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """As a whole."""
    answer = http.post("/v1/events/batch", content=body, headers=headers)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert waiting(stored) == []


def test_a_batch_without_a_good_event_is_refused_with_its_results(http: httpx.Client) -> None:
    """Each with its reason, halves of surrogate pairs and all."""
    body = b'{"\\ud800": 1}\n' + msgspec.json.encode(EVENT | {"stock": None})
    answer = http.post("/v1/events/batch", content=body, headers=NDJSON)
    assert answer.status_code == 400
    results = error_of(answer)["details"]["results"]
    assert [(result["line"], result["error"]["details"]["problem"]) for result in results] == [(1, "unknown"), (2, "required")]


def test_ten_thousand_at_once(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """The largest batch there may be, most of its bytes commas."""
    batch = [EVENT | {"product_id": f"{number}" + "," * 590} for number in range(10_000)]
    answer = http.post("/v1/events/batch", json=batch)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 10_000)
    assert [row[0] for row in waiting(stored)] == [event["product_id"] for event in batch]


@pytest.fixture
def small(environment: dict[str, str], folder: Path, stored: psycopg.Connection[Any]) -> Iterator[Served]:
    """A server where three events may wait."""
    penstock = Penstock(folder)
    try:
        with serving(penstock, "--no-worker", env=environment | {"QUEUE_SIZE": "3"}) as found:
            yield found
    finally:
        penstock.end()


def test_a_full_log_refuses(small: Served, stored: psycopg.Connection[Any]) -> None:
    """503 with Retry-After for one and for a batch without room for any; a batch with room for some is told which."""
    told = small.http.post("/v1/events/batch", json=[EVENT, {}, EVENT, EVENT, EVENT, EVENT]).json()
    statuses = [result["status"] for result in told["results"]]
    assert statuses[1] == "rejected"
    assert (told["accepted"], told["not_stored"], told["rejected"]) == (statuses.count("accepted"), statuses.count("not_stored"), 1)
    while len(waiting(stored)) < 3:
        assert small.http.post("/v1/events", json=EVENT).status_code == 202
    for road in ROADS:
        answer = small.http.post(road, json=EVENT)
        assert (answer.status_code, error_of(answer)["code"], answer.headers["retry-after"]) == (503, "queue_full", "1")
        assert "QUEUE_SIZE" in error_of(answer)["message"]
    answer = small.http.post("/v1/events/batch", json=[EVENT, {}, EVENT])
    assert (answer.status_code, error_of(answer)["code"], answer.headers["retry-after"]) == (503, "queue_full", "1")
    assert len(waiting(stored)) == 3
    stored.execute("DELETE FROM penstock.events")


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (CircuitOpenError("secret.example was away", retry_after_seconds=7), "7"),
        (EventLogUnavailableError("secret.example is away"), "5"),
        (QueueFullError("full"), "1"),
    ],
)
def test_who_cannot_store_says_when_to_come_again(error: PenstockError, seconds: str) -> None:
    """And nothing of what lies inside."""
    status, body, headers = rendered(error, "/v1/events", "r1")
    assert (status, headers) == (503, {"Retry-After": seconds})
    assert msgspec.json.decode(body)["error"]["code"] == error.code
    assert b"secret" not in body


def test_bodies_have_only_so_much_room() -> None:
    """Over all requests; what one held is free when it has ended, however that was."""
    room = Room(10)
    with room.hold() as take:
        take(6)
        with room.hold() as another:
            another(3)
            with pytest.raises(OverloadedError):
                another(2)
        take(4)
    with room.hold() as take:
        take(10)
