"""Links to a local folder's objects: what the server answers only to whoever holds one.

`/v1/storage/{key}?method=GET&expires=<unix time>&filename=<name>&signature=<hex>`: HMAC-SHA256 over the method, the key, the expiry and the
name. Servers that share the secret take each other's links.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import msgspec

from penstock.errors import InvalidLinkError
from penstock.storage.disposition import safe_name
from penstock.storage.keys import is_key
from penstock.storage.model import Key, Method, SignedLink

PREFIX = "/v1/storage/"
_REQUIRED = frozenset({"method", "expires", "signature"})
_ALLOWED = _REQUIRED | {"filename"}
_EXPIRES_DIGITS = 12


def make_link(secret: bytes, method: Method, key: Key, expires: timedelta, filename: str | None) -> SignedLink:
    until = int(time.time() + expires.total_seconds())
    name = safe_name(filename or "")
    query = {"method": str(method), "expires": str(until)} | ({"filename": name} if name else {})
    query["signature"] = _signature(secret, method, key, query["expires"], name)
    url = f"{PREFIX}{quote(key)}?{urlencode(query)}"
    return SignedLink(method=method, url=url, headers={}, expires_at=datetime.fromtimestamp(until, UTC))


def verify_link(secret: bytes, method: Method | str, key: str, query: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Raises InvalidLinkError unless `make_link` made exactly this for this method and key, and its time has not passed.

    `query`: the request's parameters. A mapping that holds several values of one name (`multi_items()`) is looked at as a whole, so that a
    doubled parameter shows.
    """
    found = _once(query)
    if found.keys() - _ALLOWED or _REQUIRED - found.keys() or not is_key(key) or found["method"] != method:
        raise _invalid()
    expires = found["expires"]
    if not expires.isascii() or not expires.isdigit() or len(expires) > _EXPIRES_DIGITS:
        raise _invalid()
    expected = _signature(secret, method, key, expires, found.get("filename", ""))
    # Compared as bytes: compare_digest refuses text that is not ASCII.
    if not hmac.compare_digest(expected.encode(), found["signature"].encode("utf-8", "replace")):
        raise _invalid()
    if int(expires) < time.time():
        raise InvalidLinkError("This link has expired. Ask for a new one.")


def _once(query: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    pairs: Iterable[tuple[str, str]]
    if isinstance(query, Mapping):
        several: Callable[[], Iterable[tuple[str, str]]] = getattr(query, "multi_items", query.items)
        pairs = several()
    else:
        pairs = query
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise _invalid()
        found[name] = value
    return found


def _signature(secret: bytes, method: str, key: str, expires: str, filename: str) -> str:
    # As a JSON array no two links have the same text, whatever stands in their parts.
    text = msgspec.json.encode(["storage link", str(method), key, expires, filename.encode("utf-8", "replace").decode()])
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def _invalid() -> InvalidLinkError:
    return InvalidLinkError("This link was altered, or is for something else. Use it exactly as it was given, or ask for a new one.")
