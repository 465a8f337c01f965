"""Dead letters over HTTP: looked at, sent into the log again, forgotten."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.serving import Served

NOBODY = "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"
_LETTER = (
    "INSERT INTO penstock.dead_letters (product_id, price, stock, occurred_at, accepted_at, event_id, code, reason, attempts, died_at)"
    " VALUES (%s, 49.90, 100, '2026-03-02 09:30Z', '2026-03-02 09:30:01.5Z', %s, %s, 'no', 3, %s) RETURNING dead_letter_id::text"
)
_RAW = (
    "INSERT INTO penstock.dead_letters (raw, code, reason, attempts) VALUES ('\\x00ff', 'invalid_event', 'no event', 1)"
    " RETURNING dead_letter_id::text"
)


@pytest.fixture
def stored(served: Served, conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """The database without events and dead letters."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM penstock.events")
        connection.execute("DELETE FROM penstock.dead_letters")
        yield connection


def bury(
    stored: psycopg.Connection[Any],
    product_id: str = "abc123",
    *,
    event_id: str | None = None,
    code: str = "refused_by_database",
    died_at: str = "2026-03-02 10:00Z",
) -> str:
    ((dead_letter_id,),) = stored.execute(_LETTER, (product_id, event_id, code, died_at)).fetchall()
    return str(dead_letter_id)


def waiting(stored: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in stored.execute("SELECT product_id FROM penstock.events ORDER BY position")]


def left(http: httpx.Client, **params: str) -> list[str]:
    return [letter["dead_letter_id"] for letter in http.get("/v1/dead-letters", params=params).json()["items"]]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_dead_letter_is_shown(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """The event as it was sent, and why it could not be applied."""
    letter_id = bury(stored, event_id="e-1")
    answer = http.get(f"/v1/dead-letters/{letter_id}")
    assert '"price":49.90,' in answer.text
    assert answer.json() == {
        "dead_letter_id": letter_id,
        "product_id": "abc123",
        "price": 49.9,
        "stock": 100,
        "occurred_at": "2026-03-02T09:30:00Z",
        "event_id": "e-1",
        "accepted_at": "2026-03-02T09:30:01.500000Z",
        "raw": None,
        "code": "refused_by_database",
        "reason": "no",
        "attempts": 3,
        "died_at": "2026-03-02T10:00:00Z",
    }


def test_what_is_no_event_can_only_be_looked_at_and_discarded(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """Its bytes are shown with escapes."""
    ((letter_id,),) = stored.execute(_RAW).fetchall()
    shown = http.get(f"/v1/dead-letters/{letter_id}").json()
    assert (shown["product_id"], shown["raw"]) == (None, r"\x00\xff")
    assert code_of(http.post(f"/v1/dead-letters/{letter_id}/replay")) == (409, "invalid_state")
    assert http.post("/v1/dead-letters/replay").json() == {"replayed": 0}
    assert http.delete(f"/v1/dead-letters/{letter_id}").status_code == 204
    assert left(http) == []


def test_pages_are_the_newest_first(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """`next` leads through all of them, those of one moment too."""
    made = [bury(stored, died_at=f"2026-03-02 10:00:0{number // 2}Z") for number in range(5)]
    found, cursor = [], None
    while True:
        page = http.get("/v1/dead-letters", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [letter["dead_letter_id"] for letter in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert found == sorted(made, key=lambda letter_id: (made.index(letter_id) // 2, letter_id), reverse=True)


def test_a_list_may_be_of_a_product_or_a_code(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """Or of both."""
    one, other = bury(stored, "a&b"), bury(stored, "a&b", code="retries_exhausted")
    third = bury(stored, "c", code="retries_exhausted")
    assert set(left(http, product_id="a&b")) == {one, other}
    assert set(left(http, code="retries_exhausted")) == {other, third}
    assert left(http, code="retries_exhausted", product_id="a&b") == [other]
    assert left(http, product_id="nothing") == []


def test_one_is_replayed(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """It is in the log then, and no dead letter; a second time there is none."""
    letter_id, other = bury(stored), bury(stored)
    answer = http.post(f"/v1/dead-letters/{letter_id}/replay")
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    assert waiting(stored) == ["abc123"]
    assert left(http) == [other]
    assert code_of(http.post(f"/v1/dead-letters/{letter_id}/replay")) == (404, "dead_letter_not_found")


def test_all_are_replayed(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """Or those of a product or a code."""
    for product_id, code in (("a", "refused_by_database"), ("b", "refused_by_database"), ("b", "retries_exhausted")):
        bury(stored, product_id, code=code)
    answer = http.post("/v1/dead-letters/replay", params={"product_id": "b", "code": "retries_exhausted"})
    assert (answer.status_code, answer.json()) == (202, {"replayed": 1})
    assert http.post("/v1/dead-letters/replay", params={"product_id": "b"}).json() == {"replayed": 1}
    assert http.post("/v1/dead-letters/replay").json() == {"replayed": 1}
    assert (waiting(stored), left(http)) == (["b", "b", "a"], [])


def test_one_is_discarded(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """For good, and once."""
    letter_id = bury(stored)
    answer = http.delete(f"/v1/dead-letters/{letter_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert code_of(http.delete(f"/v1/dead-letters/{letter_id}")) == (404, "dead_letter_not_found")
    assert waiting(stored) == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/v1/dead-letters/{NOBODY}", 404, "dead_letter_not_found"),
        ("GET", "/v1/dead-letters/nothing", 400, "invalid_id"),
        ("DELETE", "/v1/dead-letters/%00", 400, "invalid_id"),
        ("POST", "/v1/dead-letters/0b6fd5a1/replay", 400, "invalid_id"),
        ("GET", "/v1/dead-letters?code=nothing", 400, "invalid_request"),
        ("GET", "/v1/dead-letters?product_id=%00", 400, "invalid_option"),
        ("GET", "/v1/dead-letters?product_id=", 400, "invalid_request"),
        ("GET", "/v1/dead-letters?limit=201", 400, "invalid_request"),
        ("GET", "/v1/dead-letters?cursor=YWJj", 400, "invalid_option"),
        ("GET", "/v1/dead-letters?event_id=e", 400, "invalid_option"),
        ("POST", "/v1/dead-letters/replay?product_id=%00", 400, "invalid_option"),
        ("POST", "/v1/dead-letters/replay?limit=1", 400, "invalid_option"),
        ("PUT", f"/v1/dead-letters/{NOBODY}", 405, "method_not_allowed"),
    ],
)
def test_what_there_is_not_is_refused(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    """Strictly, as elsewhere."""
    assert code_of(http.request(method, path)) == (status, code)


def test_a_filter_in_the_body_is_not_ignored(http: httpx.Client, stored: psycopg.Connection[Any]) -> None:
    """Else all would be replayed where a few were meant."""
    letter_id = bury(stored)
    for address in ("/v1/dead-letters/replay", f"/v1/dead-letters/{letter_id}/replay"):
        answer = http.post(address, json={"code": "retries_exhausted"})
        assert code_of(answer) == (400, "invalid_request")
    assert left(http) == [letter_id]
