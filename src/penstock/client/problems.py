"""What a server refused, as the class of error that it raised there."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.errors import PenstockError, ServerRefusedError

_SHOWN_CHARACTERS = 200  # of a body that is no problem object: a proxy's page


class _Error(msgspec.Struct):
    code: str
    message: str
    details: dict[str, Any] | None = None


class _Problem(msgspec.Struct):
    error: _Error


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> PenstockError:
    """The error of an answer from 400 on, with `request_id` and `http_status` in its details.

    A code that this version does not know gives ServerRefusedError, with the code in its message and its details.
    """
    facts = {"http_status": status} | ({"request_id": headers["x-request-id"]} if "x-request-id" in headers else {})
    try:
        told = msgspec.json.decode(body, type=_Problem).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _made(ServerRefusedError, f"The server answered with status {status}{_shown(body)}.", facts)
    details = (told.details or {}) | facts
    if (known := _CLASSES.get(told.code)) is None:
        return _made(ServerRefusedError, f"{told.message} ({told.code})", details | {"code": told.code})
    return _made(known, told.message, details)


def _made(kind: type[PenstockError], message: str, details: dict[str, Any]) -> PenstockError:
    error = kind(message)
    error.details = details  # as they are: by keyword one named `message` could not be given
    return error


def _shown(body: bytes) -> str:
    text = " ".join(body[:_SHOWN_CHARACTERS].decode("utf-8", "replace").split())
    return "" if not text or text.startswith("<") else f": {text}"


def _tree(kind: type[PenstockError]) -> Iterator[type[PenstockError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


_CLASSES = {kind.code: kind for kind in _tree(PenstockError)}
