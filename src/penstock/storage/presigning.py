"""Further parameters for a link that obstore has signed: signed anew, by AWS Signature Version 4 for query strings."""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNATURE = "X-Amz-Signature"


def with_parameters(url: str, secret: str, parameters: Mapping[str, str]) -> str:
    """The same link with more parameters. Its date, scope, expiry and session token stay as they are; only the signature is another."""
    parts = urlsplit(url)
    query = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != _SIGNATURE} | dict(parameters)
    canonical = "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in sorted(query.items()))
    request = "\n".join(("GET", parts.path, canonical, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"))
    scope = query["X-Amz-Credential"].split("/")[1:]
    text = "\n".join((_ALGORITHM, query["X-Amz-Date"], "/".join(scope), hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.new(_signing_key(secret, scope), text.encode(), hashlib.sha256).hexdigest()
    return urlunsplit(parts._replace(query=f"{canonical}&{_SIGNATURE}={signature}"))


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")


def _signing_key(secret: str, scope: list[str]) -> bytes:
    """`scope`: date, region, service, and the word that ends it."""
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
