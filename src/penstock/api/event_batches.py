"""Many product events in one request: each is read and told of by itself, and all good ones are stored as one piece."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from penstock.api.event_door import full
from penstock.api.tally import Tally
from penstock.errors import InvalidEventError, QueueFullError
from penstock.events.model import Event, Outcome
from penstock.events.reading import EventReader, elements, lines
from penstock.events.service import Events

MOST_EVENTS = 10_000
MOST_BATCH_BYTES = 16 * 1024 * 1024
_SLICE_SECONDS = 0.002  # of the event loop at a time, which others wait for meanwhile
_STATUSES = {Outcome.ACCEPTED: b"accepted", Outcome.DUPLICATE: b"duplicate", Outcome.FULL: b"not_stored"}
_encoded = msgspec.json.Encoder(enc_hook=str).encode

_Piece = tuple[bytes, bytes]  # how its result begins: where it stood; and what stood there


async def accept_many(events: Events, tally: Tally, body: bytes, *, ndjson: bool) -> bytes:
    """The answer, once all are durable that it calls accepted.

    Raises InvalidEventError where none of them is an event, PayloadTooLargeError, QueueFullError where none was stored, and what
    `EventLog.append` raises.
    """
    pieces = _by_line(body) if ndjson else _by_index(body)
    if not pieces:
        raise InvalidEventError("The batch holds no event.")
    read = await _read(events.reader, pieces)
    good = [each for each in read if isinstance(each, Event)]
    if not good:
        results = msgspec.json.decode(b"[%b]" % b",".join(_results(pieces, read, [])))
        raise InvalidEventError(f"None of the {len(read)} events is valid; `results` says of each what is wrong.", results=results)
    outcomes = await events.accept(good)
    accepted, duplicates, left = (outcomes.count(each) for each in (Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.FULL))
    if left == len(good):
        raise full()
    tally.accepted += accepted
    tally.refused[QueueFullError.code] += left
    tally.refused[InvalidEventError.code] += len(read) - len(good)
    counts = b'"accepted":%d,"duplicates":%d,"rejected":%d,"not_stored":%d' % (accepted, duplicates, len(read) - len(good), left)
    return b'{%b,"results":[%b]}' % (counts, b",".join(_results(pieces, read, outcomes)))


def _by_index(body: bytes) -> list[_Piece]:
    return [(b'{"index":%d,' % index, element) for index, element in enumerate(elements(body, MOST_EVENTS))]


def _by_line(body: bytes) -> list[_Piece]:
    return [(b'{"index":%d,"line":%d,' % (index, number), line) for index, (number, line) in enumerate(lines(body, MOST_EVENTS))]


async def _read(reader: EventReader, pieces: Sequence[_Piece]) -> list[Event | InvalidEventError]:
    read: list[Event | InvalidEventError] = []
    until = time.perf_counter() + _SLICE_SECONDS
    for _, piece in pieces:
        try:
            read.append(reader.one(piece))
        except InvalidEventError as error:
            read.append(error.with_traceback(None))
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + _SLICE_SECONDS
    return read


def _results(pieces: Sequence[_Piece], read: Sequence[Event | InvalidEventError], outcomes: Sequence[Outcome]) -> Iterator[bytes]:
    stored = iter(outcomes)
    for (begin, _), each in zip(pieces, read, strict=True):
        if isinstance(each, InvalidEventError):
            error: dict[str, Any] = {"code": each.code, "message": each.message, "details": each.details}
            yield b'%b"status":"rejected","event_id":null,"error":%b}' % (begin, _encoded(error))
        else:
            event_id = b"null" if each.event_id is None else _encoded(each.event_id)
            yield b'%b"status":"%b","event_id":%b}' % (begin, _STATUSES[next(stored)], event_id)
