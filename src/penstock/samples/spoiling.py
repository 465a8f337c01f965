"""Ways to spoil a record that several files share."""

from collections.abc import Callable
from typing import Any

import msgspec

from penstock.samples.dice import Dice, uuid_for
from penstock.samples.schedule import Fault, Record

BAD_UUIDS = ("not-a-uuid", "12345", "6f1c2a7e-9d4b-4c11-8a57-3e0b9d21", "g7a81f5c-2b1e-4f0a-9c3d-5e6f7a8b9c0d", "{3f2b8c1e}")
BAD_TIMESTAMPS = (
    "yesterday",
    "2024-02-30T10:00:00Z",
    "2024-05-01T10:00:00",
    "now",
    "2024-13-01T08:00:00Z",
    "2024-06-01T24:30:00Z",
    "01.05.2024 10:00",
)
BAD_EMAILS = (
    "foo@bar",
    "no-at-sign.example.com",
    "two@@example.com",
    "has space@example.com",
    "dots..twice@example.com",
    "@example.com",
    "name@",
)
NOT_OBJECTS = (b'["a","list","of","texts"]', b'"only a text"', b"42", b"null", b"true")


def put(field: str, values: tuple[Any, ...], code: str) -> Fault:
    """The field holds one of `values`, none of which its rules allow."""
    return Fault((code,), lambda record, dice, _number: record | {field: dice.pick(values)})


def drop(field: str, code: str) -> Fault:
    """The field is absent."""
    return Fault((code,), lambda record, _dice, _number: {name: value for name, value in record.items() if name != field})


def change(code: str, by: Callable[[Record, Dice, int], Record]) -> Fault:
    return Fault((code,), lambda record, dice, number: record | by(record, dice, number))


def unknown(field: str, code: str, *instead: str) -> Fault:
    """A well-formed reference to nothing, in place of the ones in `instead`."""

    def spoil(record: Record, _dice: Dice, number: int) -> Record:
        kept = {name: value for name, value in record.items() if name not in instead}
        return kept | {field: uuid_for("nothing has this id", field, number)}

    return Fault((code,), spoil)


def _broken(record: Record, dice: Dice, _number: int) -> bytes:
    """Not JSON, but with its end where it should be: brackets and quotes are paired."""
    line = msgspec.json.encode(record)
    return dice.pick(
        (
            line[:-1] + b",}",
            line.replace(b'","', b'" "', 1),
            line.replace(b'":', b'"=', 1),
            b"{" + line[1:].replace(b'"', b"'", 2),
        )
    )


def _cut(record: Record, _dice: Dice, _number: int) -> bytes:
    """The first half of a line, as a full disk leaves it; cut at a comma, so never inside a character."""
    line = msgspec.json.encode(record)
    return line[: line.rfind(b",", 0, len(line) // 2)]


def _latin(field: str) -> Callable[[Record, Dice, int], bytes]:
    """One letter as Latin-1 writes it, in a file that is UTF-8."""

    def spoil(record: Record, _dice: Dice, _number: int) -> bytes:
        start = f'"{field}":"'.encode()
        return msgspec.json.encode(record).replace(start, start + b"Caf\xe9 ", 1)

    return spoil


def _deep(field: str) -> Callable[[Record, Dice, int], Record]:
    return lambda record, _dice, _number: record | {field: msgspec.Raw(b"[" * 80 + b"]" * 80)}


BROKEN_JSON = Fault(("malformed_json",), _broken)
CUT_JSON = Fault(("malformed_json",), _cut)  # in NDJSON only: in an array nothing after it could be found
NOT_AN_OBJECT = Fault(("not_an_object",), lambda _record, dice, _number: dice.pick(NOT_OBJECTS))


def latin(field: str) -> Fault:
    return Fault(("invalid_encoding",), _latin(field))


def too_deep(field: str) -> Fault:
    return Fault(("nested_too_deep",), _deep(field))
