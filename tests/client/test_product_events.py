"""Product events through the client: batches, what becomes of each event, what is sent again, dead letters."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pytest

from penstock.client import EventStatus, SentEvent
from penstock.errors import (
    CircuitOpenError,
    DeadLetterNotFoundError,
    InvalidEventError,
    QueueFullError,
    ServerRefusedError,
    ServerUnreachableError,
)
from tests.client.conftest import Answer, Handler, Scripted, good, refusing

EVENT = {"product_id": "abc123", "price": Decimal("49.90"), "stock": 100}
LETTER = {
    "dead_letter_id": "5f0c8a36-6a52-4c55-9f6e-0d4a8f3c2b11",
    "code": "refused_by_database",
    "reason": "check_violation (23514)",
    "attempts": 1,
    "died_at": "2024-05-01T12:00:00Z",
    **{name: value for name, value in EVENT.items() if name != "price"},
    "price": 49.9,
    "colour": "red",
}


def _events(count: int, **more: Any) -> Iterator[dict[str, Any]]:
    return ({"product_id": f"p{number}", "price": number, "stock": 1, **more} for number in range(count))


def _lines(body: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in body.splitlines()]


def _batch(handler: Handler, status: int, results: list[dict[str, Any]]) -> None:
    handler.send(status, msgspec.json.encode({"results": results}))


def _taking(bodies: list[bytes], answer: Callable[[Handler, bytes], None]) -> Answer:
    def take(handler: Handler) -> None:
        bodies.append(handler.body())
        answer(handler, bodies[-1])

    return take


def _accepting(handler: Handler, body: bytes) -> None:
    _batch(handler, 202, [{"index": index, "status": "accepted", "event_id": "the server's"} for index, _ in enumerate(_lines(body))])


def _storing(room: int) -> Callable[[Handler, bytes], None]:
    """The first `room` of a batch."""

    def answer(handler: Handler, body: bytes) -> None:
        _batch(handler, 202, [{"index": i, "status": "accepted" if i < room else "not_stored"} for i, _ in enumerate(_lines(body))])

    return answer


def _refusing(error: Exception, **headers: str) -> Callable[[Handler, bytes], None]:
    return lambda handler, _body: refusing(error, **headers)(handler)  # type: ignore[arg-type]


def test_one_event_goes_as_it_was_given(scripted: Scripted) -> None:
    """Its price exact, its moment with a zone, under an event_id of its own."""
    bodies: list[bytes] = []
    scripted.answers(_taking(bodies, lambda handler, _: handler.send(202, b'{"status":"accepted","event_id":"e-1"}')))
    sent = scripted.client.send_event(EVENT | {"event_id": "e-1", "occurred_at": datetime(2024, 5, 1, 12, tzinfo=UTC)})
    assert sent == SentEvent(status=EventStatus.ACCEPTED, event_id="e-1")
    assert b'"price":49.90,' in bodies[0]
    assert _lines(bodies[0]) == [
        {"product_id": "abc123", "price": 49.9, "stock": 100, "event_id": "e-1", "occurred_at": "2024-05-01T12:00:00Z"}
    ]


def test_what_is_sent_again_has_the_same_event_id(scripted: Scripted) -> None:
    """A lost answer and a server that is away for a moment cost no second application."""
    bodies: list[bytes] = []
    scripted.answers(
        _taking(bodies, lambda handler, _: handler.drop()),
        _taking(bodies, _refusing(CircuitOpenError("away", retry_after_seconds=0), Retry_After="0")),
        _taking(bodies, lambda handler, _: handler.send(202, b'{"status":"duplicate"}')),
    )
    assert scripted.client.send_event(EVENT).status is EventStatus.DUPLICATE
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(_lines(bodies[0])[0]["event_id"]) == 36


def test_what_is_no_event_is_told_and_not_sent_again(scripted: Scripted) -> None:
    """With the server's words."""
    scripted.answers(refusing(InvalidEventError("price must not be negative", field="price")))
    with pytest.raises(InvalidEventError, match="price") as refused:
        scripted.client.send_event(EVENT | {"price": -1})
    assert refused.value.details["field"] == "price"
    assert len(scripted.asked) == 1


def test_batches_are_asked_for_one_by_one(scripted: Scripted) -> None:
    """1,000 events each, sent only when their results are wanted, and numbered throughout."""
    bodies: list[bytes] = []
    scripted.answers(_taking(bodies, _accepting))
    results = scripted.client.send_events(_events(2500))
    assert bodies == []
    assert next(results).index == 0
    assert len(bodies) == 1
    assert [sent.index for sent in results] == list(range(1, 2500))
    assert [len(_lines(body)) for body in bodies] == [1000, 1000, 500]
    assert [line["product_id"] for body in bodies for line in _lines(body)] == [f"p{number}" for number in range(2500)]
    assert len({line["event_id"] for body in bodies for line in _lines(body)}) == 2500
    assert {path for _, path in scripted.asked} == {"/v1/events/batch"}


def test_large_events_make_smaller_batches(scripted: Scripted) -> None:
    """A body stays far below what a server takes."""
    bodies: list[bytes] = []
    scripted.answers(_taking(bodies, _accepting))
    assert len(list(scripted.client.send_events(_events(30, event_id="x" * 500_000)))) == 30
    assert len(bodies) > 3
    assert max(map(len, bodies)) < 5_000_000


def test_a_bad_event_holds_up_no_other(scripted: Scripted) -> None:
    """Neither one that the server refuses nor one that cannot be written; each has its reason and its place."""
    bodies: list[bytes] = []

    def answer(handler: Handler, body: bytes) -> None:
        error = {"code": "invalid_event", "message": "price must not be negative", "details": {"field": "price"}}
        results = [{"index": i, "status": "accepted"} for i, _ in enumerate(_lines(body))]
        results[1] = {"index": 1, "status": "rejected", "error": error}
        _batch(handler, 202, results)

    scripted.answers(_taking(bodies, answer))
    given = [EVENT, EVENT | {"price": object()}, EVENT | {"price": -1, "event_id": "e-2"}, EVENT]
    found = list(scripted.client.send_events(given))
    assert [(sent.index, sent.status.value) for sent in found] == [(0, "accepted"), (1, "rejected"), (2, "rejected"), (3, "accepted")]
    assert found[1].error is not None
    assert "JSON" in found[1].error.message
    assert found[2].error is not None
    assert (found[2].event_id, found[2].error.details) == ("e-2", {"field": "price"})
    assert len(_lines(bodies[0])) == 3


def test_a_batch_without_any_event_is_no_end(scripted: Scripted) -> None:
    """The server answers 400 with the results in its details; what follows is sent all the same."""
    bodies: list[bytes] = []
    result = {"index": 0, "status": "rejected", "error": {"code": "invalid_event", "message": "no"}}
    scripted.answers(
        _taking(bodies, _refusing(InvalidEventError("none of them", results=[result] * 1000))),
        _taking(bodies, _accepting),
    )
    found = list(scripted.client.send_events(_events(1001)))
    assert [sent.status for sent in found] == [EventStatus.REJECTED] * 1000 + [EventStatus.ACCEPTED]
    assert [sent.index for sent in found] == list(range(1001))


def test_a_refusal_of_the_body_itself_is_an_error(scripted: Scripted) -> None:
    """Where the server says nothing of the single events, nor does the client."""
    scripted.answers(refusing(InvalidEventError("no array")))
    with pytest.raises(InvalidEventError, match="no array"):
        list(scripted.client.send_events([EVENT]))


def test_what_was_not_stored_is_sent_again_before_what_follows(scripted: Scripted) -> None:
    """In its order, and nothing else with it."""
    bodies: list[bytes] = []
    scripted.answers(
        _taking(bodies, _storing(600)),
        _taking(bodies, _refusing(QueueFullError("full"), Retry_After="0")),
        _taking(bodies, _storing(100)),
        _taking(bodies, _accepting),
    )
    found = list(scripted.client.send_events(_events(1200)))
    assert [(sent.index, sent.status) for sent in found] == [(index, EventStatus.ACCEPTED) for index in range(1200)]
    ids = [[line["product_id"] for line in _lines(body)] for body in bodies]
    assert [len(batch) for batch in ids] == [1000, 400, 400, 300, 200]
    assert ids[1] == ids[2] == ids[0][600:]
    assert ids[3] == ids[0][700:]


def test_a_backlog_that_stays_full_is_told_event_by_event(scripted: Scripted) -> None:
    """First what became of the batch, then the error; nothing of what follows is sent."""
    bodies: list[bytes] = []
    scripted.answers(_taking(bodies, _storing(2)), _taking(bodies, _storing(0)))
    results = scripted.client.send_events(_events(1003))
    found = list(islice(results, 1000))
    with pytest.raises(QueueFullError):
        next(results)
    assert [sent.status for sent in found] == [EventStatus.ACCEPTED] * 2 + [EventStatus.NOT_STORED] * 998
    assert found[-1].event_id == _lines(bodies[0])[-1]["event_id"]
    assert len(bodies) == 2


@pytest.mark.parametrize("count", [0, 2])
def test_an_answer_for_other_events_is_refused(scripted: Scripted, count: int) -> None:
    """It would be taken for those of the events that were sent."""
    scripted.answers(_taking([], lambda handler, _: _batch(handler, 202, [{"status": "accepted"}] * count)))
    with pytest.raises(ServerRefusedError, match="1 that were sent"):
        list(scripted.client.send_events([EVENT]))


def test_a_server_that_is_gone_ends_it(scripted: Scripted) -> None:
    """After what is known."""
    bodies: list[bytes] = []
    scripted.answers(_taking(bodies, _accepting), _taking(bodies, lambda handler, _: handler.drop()))
    results = scripted.client.send_events(_events(1001))
    assert len([next(results) for _ in range(1000)]) == 1000
    with pytest.raises(ServerUnreachableError):
        next(results)
    assert set(bodies[1:]) == {bodies[1]}


def test_dead_letters_come_page_by_page(scripted: Scripted) -> None:
    """Each with its event; members that are not known do no harm."""
    pages = [{"items": [LETTER, LETTER], "next": "c/1"}, {"items": [LETTER], "next": None}]
    scripted.answers(*(good(msgspec.json.encode(page)) for page in pages))
    letters = list(scripted.client.dead_letters(product_id="a b", code="refused_by_database"))
    assert [(letter.product_id, letter.price, letter.stock) for letter in letters] == [("abc123", Decimal("49.9"), 100)] * 3
    assert letters[0].died_at == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert [path for _, path in scripted.asked] == [
        "/v1/dead-letters?product_id=a+b&code=refused_by_database&limit=200",
        "/v1/dead-letters?product_id=a+b&code=refused_by_database&limit=200&cursor=c%2F1",
    ]


def test_dead_letters_are_replayed_and_discarded(scripted: Scripted) -> None:
    """One by its id, or all; a replay whose answer is lost is not asked for twice."""
    letter_id = LETTER["dead_letter_id"]
    scripted.answers(
        good(msgspec.json.encode(LETTER)),
        good(b'{"status":"duplicate"}'),
        good(b'{"replayed":3}'),
        good(b""),
        refusing(DeadLetterNotFoundError("gone")),
    )
    assert scripted.client.dead_letter(str(letter_id)).code == "refused_by_database"
    assert scripted.client.replay(str(letter_id)) is EventStatus.DUPLICATE
    assert scripted.client.replay_all(code="refused_by_database") == 3
    scripted.client.discard("a/b")
    with pytest.raises(DeadLetterNotFoundError):
        scripted.client.replay(str(letter_id))
    assert scripted.asked == [
        ("GET", f"/v1/dead-letters/{letter_id}"),
        ("POST", f"/v1/dead-letters/{letter_id}/replay"),
        ("POST", "/v1/dead-letters/replay?code=refused_by_database"),
        ("DELETE", "/v1/dead-letters/a%2Fb"),
        ("POST", f"/v1/dead-letters/{letter_id}/replay"),
    ]
    scripted.answers(lambda handler: handler.drop())
    with pytest.raises(ServerUnreachableError):
        scripted.client.replay(str(letter_id))
    assert len(scripted.asked) == 6
