"""Requests that a page of another site makes a browser send, directly or under a name of its own that it had led here (DNS rebinding).

Nobody signs in to a server on loopback: what keeps others out is that only this machine reaches it, and so does every page that is open in
its browser. A form can be sent to any address without asking; the page cannot read the answer, but the records would have landed.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from penstock.errors import CrossSiteError, UnknownHostError

_SAFE = ("GET", "HEAD", "OPTIONS")  # they change nothing


def cross_site(method: str, headers: Mapping[bytes, bytes], public_url: str | None) -> CrossSiteError | None:
    """What a browser says of where a request comes from; programs say nothing of it, and pass."""
    site, written = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if method in _SAFE or site in (b"same-origin", b"none") or (site is None and not written):
        return None
    if _ours((written or b"").decode("latin-1"), headers.get(b"host", b"").decode("latin-1"), public_url):
        return None
    return CrossSiteError(
        "A page of another site may not send requests here. Send it from this server's own address, or from a program; behind a proxy set "
        "PUBLIC_URL to the address that people use."
    )


def _ours(origin: str, host: str, public_url: str | None) -> bool:
    scheme, colon, address = origin.partition("://")
    if not (colon and scheme in ("http", "https")):
        return False
    if public_url is not None:
        public = urlsplit(public_url)
        if (scheme, address.lower()) == (public.scheme, public.netloc.lower()):
            return True
    return address.lower() == host.lower()


def unknown_host(headers: Mapping[bytes, bytes], public_url: str | None) -> UnknownHostError | None:
    """A page whose name was made to mean this machine is of the same site as the server, for the browser; its name gives it away."""
    host = headers.get(b"host")
    if not host or _is_known(host, public_url):
        return None
    return UnknownHostError(
        "This server answers to the names of its own machine only (localhost, 127.0.0.1). If people reach it by another name, through a "
        "proxy say, set PUBLIC_URL to the address that they use."
    )


@lru_cache(maxsize=64)  # nearly all requests name the same one or two
def _is_known(host: bytes, public_url: str | None) -> bool:
    name = _name(host.decode("latin-1"))
    if name == "localhost" or name.endswith(".localhost") or _is_loopback(name):
        return True
    return public_url is not None and name == urlsplit(public_url).hostname


def _name(host: str) -> str:
    """Without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
