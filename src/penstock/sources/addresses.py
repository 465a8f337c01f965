"""Where `file_url` may lead: the public internet and the networks that the operator allows, judged by the addresses themselves.

Names and written forms of addresses lie (`2130706433`, `0x7f.1`, a name that answers with 127.0.0.1); what counts is what a name resolves
to, and the connection goes to exactly the address that was judged.
"""

import queue
import re
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, quote, urlsplit

import idna
import msgspec

from penstock.errors import DownloadFailedError, ForbiddenUrlError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

LONGEST_URL = 4096
RESOLVE_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE = "%/:?#[]@!$&'()*+,;=~"
_INTERNET6 = IPv6Network("2000::/3")
# What `is_global` calls global and is not, or what carries an IPv4 address that nobody would judge.
_TUNNELS = tuple(
    map(
        IPv6Network,
        (
            "::/96",  # IPv4-compatible
            "::ffff:0:0/96",  # IPv4-mapped
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",  # NAT64 of a site
            "2001::/32",  # Teredo
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
_RELAYS = (IPv4Network("192.88.99.0/24"),)  # 6to4 relays


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A URL whose every address was found to be allowed."""

    url: str  # normalised: ASCII, no fragment
    scheme: str
    host: str  # ASCII; an IPv6 address without brackets
    port: int
    addresses: tuple[str, ...]


def resolved(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system finds them. Raises DownloadFailedError, also where that takes too long."""
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)))
        except OSError as error:
            answers.put(error)

    # getaddrinfo cannot be given a limit; a thread that hangs in it keeps nobody from going on or from ending.
    threading.Thread(target=ask, name="penstock-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise DownloadFailedError(f"The name {host} was not resolved within {RESOLVE_SECONDS:g} s.") from None
    if isinstance(answer, OSError) or not answer:
        raise DownloadFailedError(f"The name {host} cannot be resolved. Check file_url.")
    return answer


def target_of(url: str, *, allowed: Sequence[Network], resolve: Resolve = resolved) -> Target:
    """Raises ForbiddenUrlError for what is no http or https URL of allowed addresses only, DownloadFailedError for names without any."""
    parts = _split(url)
    host, port = _host(parts), _port(parts)
    addresses = (host,) if _is_address(host) else tuple(resolve(host, port))
    if not all(is_allowed(address, allowed) for address in addresses):
        raise ForbiddenUrlError(
            f"file_url leads to {host}, which is not on the public internet. The server fetches from public addresses only; "
            "FILE_URL_ALLOWED_NETWORKS is where its operator can allow others."
        )
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return Target(url=f"{parts.scheme}://{netloc}{target}", scheme=parts.scheme, host=host, port=port, addresses=addresses)


def is_allowed(text: str, allowed: Sequence[Network]) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, IPv6Address):
        return address in _INTERNET6 and not any(address in network for network in _TUNNELS)
    return not any(address in network for network in _RELAYS)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _split(url: str) -> SplitResult:
    if len(url) > LONGEST_URL or _UNPRINTABLE.search(url):
        raise ForbiddenUrlError(f"file_url must be a URL of at most {LONGEST_URL} characters without spaces, controls and backslashes.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ForbiddenUrlError("file_url is not a URL.") from None
    if parts.scheme not in _PORTS:
        raise ForbiddenUrlError("file_url must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise ForbiddenUrlError("file_url must not contain a user name or a password. Use a signed URL.")
    return parts


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise ForbiddenUrlError("The address in file_url is not an IPv6 address.") from None
    try:
        ascii_host = idna.encode(host, uts46=True).decode().lower() if not host.isascii() else host
    except idna.IDNAError:
        raise ForbiddenUrlError("The host in file_url is not a valid name.") from None
    ascii_host = ascii_host.removesuffix(".")
    labels = ascii_host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ForbiddenUrlError("The host in file_url is not a valid name.")
    if _NUMERIC.fullmatch(labels[-1]):
        # Decimal, hexadecimal, octal and shortened forms, of which each library makes another address.
        try:
            return str(IPv4Address(ascii_host))
        except ValueError:
            raise ForbiddenUrlError("An IPv4 address in file_url must be written as four decimal numbers.") from None
    return ascii_host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ForbiddenUrlError("The port in file_url must be a number from 1 to 65535.")
    return port or _PORTS[parts.scheme]
