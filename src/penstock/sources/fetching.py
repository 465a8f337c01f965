"""Files from a `file_url`: only from where the server may go, within limits, never half a file for a whole one."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from penstock.errors import DownloadFailedError, ForbiddenUrlError, PayloadTooLargeError
from penstock.sources.addresses import Network, Resolve, Target, resolved, target_of
from penstock.sources.names import disposition_name, file_name

if TYPE_CHECKING:  # they take a tenth of a second, and most processes fetch nothing
    import httpcore

    from penstock.sources.pinned import Bounds

MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
# Readers unpack gzip and zstd by themselves; nothing else may hide the file's own bytes.
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "zstd")


@dataclass(frozen=True, slots=True)
class Fetched:
    """`chunks` is read once, inside the context that gave it. It raises what `fetch` raises where the file breaks off."""

    name: str
    chunks: Iterator[bytes]


def check_url(url: str, *, allowed: Sequence[Network], resolve: Resolve = resolved) -> str:
    """The URL, normalised. Raises ForbiddenUrlError, and DownloadFailedError where its name cannot be resolved. Not for the event loop."""
    return target_of(url, allowed=allowed, resolve=resolve).url


def name_of_url(url: str) -> str:
    """The file's name as the URL's path has it, until the server says more."""
    return file_name(unquote(urlsplit(url).path), "download")


@contextmanager
def fetch(
    url: str,
    *,
    allowed: Sequence[Network],
    max_bytes: int,
    total_seconds: float,
    cancel: threading.Event,
    resolve: Resolve = resolved,
) -> Iterator[Fetched]:
    """Follow at most 3 redirects, each judged like the first, and stream what answers with 200.

    No proxies of the environment, no cookies, no credentials. Raises ForbiddenUrlError, DownloadFailedError, PayloadTooLargeError,
    CancelledError.
    """
    from penstock.sources.pinned import Bounds  # noqa: PLC0415 - see above

    bounds = Bounds(total_seconds, cancel)
    with ExitStack() as stack, _told():
        address = url
        for _hop in range(MOST_REDIRECTS + 1):
            target = target_of(address, allowed=allowed, resolve=resolve)
            response = stack.enter_context(_answer(target, bounds))
            if response.status not in _REDIRECTS:
                yield _fetched(target, response, max_bytes)
                return
            address = _next_address(target, response)
            stack.pop_all().close()
        raise DownloadFailedError(f"file_url was redirected more than {MOST_REDIRECTS} times.")


@contextmanager
def _told() -> Iterator[None]:
    import httpcore  # noqa: PLC0415 - see above

    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise _failed(error) from error


def _failed(error: Exception) -> DownloadFailedError:
    import httpcore  # noqa: PLC0415 - see above

    match error:
        case httpcore.ConnectError() | httpcore.ConnectTimeout():
            return DownloadFailedError("The server of file_url cannot be reached, or its certificate is not valid.")
        case httpcore.TimeoutException():
            return DownloadFailedError("The server of file_url fell silent before the file was whole.")
        case _:
            return DownloadFailedError("The connection to the server of file_url broke before the file was whole.")


@contextmanager
def _answer(target: Target, bounds: "Bounds") -> Iterator["httpcore.Response"]:
    import httpcore  # noqa: PLC0415 - see above
    import httpx  # noqa: PLC0415 - see above

    from penstock.sources.pinned import PinnedBackend  # noqa: PLC0415 - see above

    context = httpx.create_ssl_context() if target.scheme == "https" else None
    headers = [("Host", urlsplit(target.url).netloc), ("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", "penstock")]
    with (
        httpcore.ConnectionPool(ssl_context=context, network_backend=PinnedBackend(target.addresses, bounds)) as pool,
        pool.stream("GET", target.url, headers=headers) as response,
    ):
        yield response


def _next_address(target: Target, response: "httpcore.Response") -> str:
    location = _header(response, b"location")
    if not location:
        raise DownloadFailedError(f"{target.host} redirected file_url to nowhere.")
    try:
        address = urljoin(target.url, location)
    except ValueError:
        raise DownloadFailedError(f"{target.host} redirected file_url to what is not a URL.") from None
    if target.scheme == "https" and urlsplit(address).scheme == "http":
        # A signed query is a credential; in the clear everybody on the way could use it.
        raise ForbiddenUrlError(f"{target.host} redirected file_url from https to http, which is not followed.")
    return address


def _fetched(target: Target, response: "httpcore.Response", max_bytes: int) -> Fetched:
    if response.status != HTTPStatus.OK:
        raise DownloadFailedError(f"{target.host} answered with status {response.status} instead of the file.", status=response.status)
    if (encoding := _header(response, b"content-encoding").lower()) not in _ENCODINGS:
        raise DownloadFailedError(f"{target.host} sent the file with Content-Encoding {encoding[:50]}, which cannot be read.")
    length = _header(response, b"content-length")
    if length.isascii() and length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    name = disposition_name(_header(response, b"content-disposition"))
    return Fetched(name=file_name(name, name_of_url(target.url)), chunks=_chunks(response, max_bytes))


def _chunks(response: "httpcore.Response", max_bytes: int) -> Iterator[bytes]:
    size = 0
    with _told():
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            yield chunk


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The file at file_url is larger than the {max_bytes} bytes that are taken at most.", limit_bytes=max_bytes)


def _header(response: "httpcore.Response", name: bytes) -> str:
    return next((value.decode("utf-8", "replace").strip() for key, value in response.headers if key.lower() == name), "")
