"""Requests to one server: limits on every wait, errors as classes of ours, and again what may be asked again."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import stamina
import stamina.instrumentation
import structlog

from penstock.client.problems import error_of
from penstock.errors import FileChangedError, InvalidOptionError, PenstockError, ServerRefusedError, ServerUnreachableError

_ATTEMPTS = 5
_PATIENCE_SECONDS = 60.0  # for all attempts together
_LONGEST_PAUSE_SECONDS = 30.0  # whatever Retry-After asks
_PASSING = frozenset({502, 503})
_IN_PROGRESS = "idempotency_in_progress"  # what is left of an attempt whose connection was lost; it passes
_OFTEN = "Check the URL, that the server runs (`penstock serve` there), and that nothing between refuses the connection."


_ENDLESS = "The answer does not tell its end, so that a cut one could not be told from a whole one: something between speaks HTTP/1.0 only."
_REDIRECTS = frozenset({302, 303, 307, 308})
Params = Mapping[str, Any] | list[tuple[str, Any]]

if not structlog.is_configured():
    # What the library does by itself then prints a line for each retry to standard output, which belongs to the program.
    stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.LoggingOnRetryHook])


class _AgainError(Exception):
    """A failure that may pass; `after` seconds, if the server said when."""

    def __init__(self, error: PenstockError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after


class _SpentError(Exception):
    """The body was read, and cannot be read again."""


class Transport:
    """May be used by several threads. Every method raises ServerUnreachableError, ServerRefusedError and what the server raised."""

    def __init__(self, url: str, *, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        """`timeout`: seconds for a connection, and for each wait for bytes."""
        self.url = checked_url(url)
        self._timeout = timeout
        self._near = _is_loopback(self.url)
        self._client = httpx.Client(
            timeout=timeout,
            headers={"User-Agent": f"penstock/{version('penstock')}", **(headers or {})},
            # A proxy of the environment is meant for other machines.
            trust_env=not self._near,
        )

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        again: bool | None = None,
        also_good: frozenset[int] = frozenset(),
    ) -> bytes:
        """The body of a good answer. `again`: whether it is tried again, by default a GET is. `also_good`: statuses beside 2xx."""

        def build() -> httpx.Request:
            return self._client.build_request(method, self.url + path, params=params)

        return self._whole(build, again=method == "GET" if again is None else again, also_good=also_good)

    def send(self, path: str, body: Callable[[], tuple[Mapping[str, str], Iterator[bytes]] | None], *, answer_seconds: float) -> bytes:
        """POST what `body` gives, its headers and its bytes, called anew for each attempt; None ends the attempts.

        The request must do no harm twice. `answer_seconds`: the wait for the answer after the last byte.
        """
        timeout = httpx.Timeout(self._timeout, read=answer_seconds)

        def build() -> httpx.Request:
            if (made := body()) is None:
                raise _SpentError
            headers, content = made
            return self._client.build_request("POST", self.url + path, headers=dict(headers), content=content, timeout=timeout)

        return self._whole(build, again=True)

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Params | None = None,
        accept: str | None = None,
        idle_seconds: float | None = None,
        to_end: bool = False,
    ) -> Iterator[Iterator[bytes]]:
        """The bytes of the answer to a GET as they come. Raises ServerUnreachableError in the middle when they break off.

        `to_end`: refuse an answer of which nobody could tell whether it is whole. On this machine nothing is compressed for the way.
        """
        timeout = httpx.Timeout(self._timeout, read=idle_seconds or self._timeout)
        headers = {"Accept": accept} if accept else {}
        if to_end and self._near:
            headers["Accept-Encoding"] = "identity"

        def build() -> httpx.Request:
            return self._client.build_request("GET", self.url + path, params=params, headers=headers, timeout=timeout)

        with closing(self._answer(build, again=True)) as response:
            if to_end and not {"content-length", "transfer-encoding"} & response.headers.keys():
                raise ServerRefusedError(_ENDLESS, url=self.url)
            yield self._bytes(response)

    @contextmanager
    def fetch(self, path: str, *, idle_seconds: float) -> Iterator[Iterator[bytes]]:
        """The bytes of a file that the answer to a GET redirects to, wherever that is; headers of ours go to the server only."""

        def build() -> httpx.Request:
            return self._client.build_request("GET", self.url + path)

        with closing(self._answer(build, again=True, also_good=_REDIRECTS)) as response:
            link = urljoin(self.url + path, response.headers.get("location", ""))
        if not link.startswith(("http://", "https://")):
            raise ServerRefusedError(f"{self.url} redirects to {link[:100]!r}, which is no link to a file.", url=self.url)
        timeout = httpx.Timeout(self._timeout, read=idle_seconds)

        def build_there() -> httpx.Request:
            return httpx.Request("GET", link, headers={"Accept-Encoding": "identity"}, extensions={"timeout": timeout.as_dict()})

        with closing(self._answer(build_there, again=True)) as response:
            yield self._bytes(response)

    def _bytes(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise ServerUnreachableError(f"The answer of {self.url} broke off ({_named(error)}). Try again.", url=self.url) from error

    def _whole(self, build: Callable[[], httpx.Request], *, again: bool, also_good: frozenset[int] = frozenset()) -> bytes:
        response = self._answer(build, again=again, also_good=also_good)
        try:
            return b"".join(self._bytes(response))
        finally:
            response.close()

    def _answer(self, build: Callable[[], httpx.Request], *, again: bool, also_good: frozenset[int] = frozenset()) -> httpx.Response:
        """A good answer, of which the head has been read."""
        last: _AgainError | None = None
        try:
            for attempt in stamina.retry_context(
                on=_pause, attempts=_ATTEMPTS, timeout=_PATIENCE_SECONDS, wait_initial=0.3, wait_max=5.0, wait_jitter=0.2
            ):
                with attempt:
                    try:
                        return self._once(build(), again=again, also_good=also_good)
                    except _AgainError as error:
                        last = error
                        raise
        except _SpentError:
            assert last is not None
            raise last.error from last
        except _AgainError as error:
            raise error.error from error
        raise AssertionError("the retry loop ends by returning or raising")

    def _once(self, request: httpx.Request, *, again: bool, also_good: frozenset[int]) -> httpx.Response:
        try:
            response = self._client.send(request, stream=True)
        except httpx.LocalProtocolError as error:
            raise FileChangedError("The file has not the size any more that it had at the start. Send it again.") from error
        except httpx.HTTPError as error:
            told = ServerUnreachableError(f"No answer from {self.url} ({_named(error)}). {_OFTEN}", url=self.url)
            if again:
                raise _AgainError(told) from error
            raise told from error
        if response.is_success or response.status_code in also_good:
            return response
        raise self._refused(response, again=again)

    def _refused(self, response: httpx.Response, *, again: bool) -> Exception:
        try:
            body = response.read()
        except httpx.HTTPError:
            body = b""
        finally:
            response.close()
        if response.is_redirect:
            return ServerRefusedError(f"{self.url} redirects to {response.headers.get('location')}: give that URL.", url=self.url)
        error = error_of(response.status_code, response.headers, body)
        if again and (response.status_code in _PASSING or error.code == _IN_PROGRESS):
            return _AgainError(error, _retry_after(response))
        return error


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises InvalidOptionError."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0 and url.isprintable()
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or " " in url:
        raise InvalidOptionError(f"{url!r} is not the URL of a server: it must be such as http://127.0.0.1:8080")
    if parts.username or parts.password:
        raise InvalidOptionError("A server's URL may hold no user and no password: they would be shown and logged.")
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pause(error: Exception) -> bool | float:
    if not isinstance(error, _AgainError):
        return False
    return True if error.after is None else error.after


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from a number or a date."""
    given = response.headers.get("retry-after", "")
    try:
        seconds = (
            float(given) if given.isascii() and given.isdigit() else (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE_SECONDS)


def _named(error: httpx.HTTPError) -> str:
    """The kind of trouble in words; the exception's own text may hold addresses of proxies."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(error).__name__)
    return words.strip().removesuffix(" error")
