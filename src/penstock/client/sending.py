"""Product events on their way to a server, in batches, with what became of each."""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.client.transport import Transport
from penstock.client.wire import EventError, EventStatus, SentEvent, decoded
from penstock.errors import InvalidEventError, PenstockError, QueueFullError, ServerRefusedError

BATCH_EVENTS = 1000
_BATCH_BYTES = 4 << 20  # a quarter of what a server takes
_ANSWER_SECONDS = 60.0
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class _Results(msgspec.Struct):
    results: list[SentEvent]


@dataclass(frozen=True, slots=True)
class _Line:
    index: int  # among all that are sent
    event_id: str | None
    content: bytes
    error: EventError | None = None  # why it cannot even be sent


def send_one(transport: Transport, event: Mapping[str, Any]) -> SentEvent:
    """As `Server.send_event`."""
    line = _line(0, event)
    if line.error is not None:
        raise InvalidEventError(line.error.message)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(line.content))}
    answer = transport.send("/v1/events", lambda: (headers, iter([line.content])), answer_seconds=_ANSWER_SECONDS)
    return decoded(answer, SentEvent)


def send_all(transport: Transport, events: Iterable[Mapping[str, Any]]) -> Iterator[SentEvent]:
    """As `Server.send_events`."""
    for batch in _batches(events):
        found, full = _sent(transport, batch)
        yield from found
        if full is not None:
            raise full


def _batches(events: Iterable[Mapping[str, Any]]) -> Iterator[list[_Line]]:
    batch: list[_Line] = []
    size = 0
    for index, event in enumerate(events):
        line = _line(index, event)
        if batch and (len(batch) == BATCH_EVENTS or size + len(line.content) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.content)
    if batch:
        yield batch


def _line(index: int, event: Mapping[str, Any]) -> _Line:
    """With an event_id in any case, so that it does no harm to send it twice."""
    given = event.get("event_id")
    event_id = str(uuid.uuid4()) if given is None else given
    shown = event_id if isinstance(event_id, str) else None
    try:
        return _Line(index, shown, _ENCODER.encode({**event, "event_id": event_id}))
    except (TypeError, ValueError) as error:
        return _Line(index, shown, b"", EventError(code=InvalidEventError.code, message=f"The event cannot be written as JSON: {error}"))


def _sent(transport: Transport, batch: list[_Line]) -> tuple[list[SentEvent], PenstockError | None]:
    """What became of each, in order; and why some were not stored, for all that it was tried.

    Every round but the last settles some of them, so the rounds end.
    """
    found = {
        line.index: _placed(SentEvent(status=EventStatus.REJECTED, error=line.error), line) for line in batch if line.error is not None
    }
    rest, full = [line for line in batch if line.error is None], None
    while rest and full is None:
        try:
            results = _asked(transport, rest)
        except QueueFullError as error:
            results, full = [SentEvent(status=EventStatus.NOT_STORED, event_id=line.event_id) for line in rest], error
        found |= {line.index: _placed(result, line) for line, result in zip(rest, results, strict=True)}
        left = [line for line in rest if found[line.index].status is EventStatus.NOT_STORED]
        if left and len(left) == len(rest) and full is None:
            full = QueueFullError("The server stores no more events now. Send those that were not stored again later.")
        rest = left
    return [found[line.index] for line in batch], full


def _asked(transport: Transport, lines: list[_Line]) -> list[SentEvent]:
    body = b"\n".join(line.content for line in lines) + b"\n"
    headers = {"Content-Type": "application/x-ndjson", "Content-Length": str(len(body))}
    try:
        answer = transport.send("/v1/events/batch", lambda: (headers, iter([body])), answer_seconds=_ANSWER_SECONDS)
        results = decoded(answer, _Results).results
    except InvalidEventError as error:  # none of them is an event
        results = _rejected(error)
    if len(results) != len(lines):
        raise ServerRefusedError(
            f"The server told what became of {len(results)} events, of {len(lines)} that were sent. Check its version."
        )
    return results


def _rejected(error: InvalidEventError) -> list[SentEvent]:
    try:
        return msgspec.convert(error.details.get("results"), list[SentEvent])
    except msgspec.ValidationError:
        raise error from None


def _placed(result: SentEvent, line: _Line) -> SentEvent:
    return msgspec.structs.replace(result, index=line.index, event_id=line.event_id)
