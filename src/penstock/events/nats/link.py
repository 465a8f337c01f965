"""The connection of a process to NATS: made at its first use, made again by itself for ever, never waited for longer than a moment."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from penstock.errors import EventLogUnavailableError, HandedOverError, SettingsError
from penstock.logs import get_logger

_CONNECT_SECONDS = 5.0
_AGAIN_SECONDS = 1  # between two attempts to connect
_ASK_SECONDS = 5.0
_PING_SECONDS = 5  # a peer that went dead without a word is noticed after three of them
_END_SECONDS = 2
_API = "$JS.API."
_NO_RESPONDERS = "503"


class Servers(NamedTuple):
    """Where NATS is, without its secrets, and apart from it who we are there."""

    urls: list[str]
    user: str | None
    password: str | None
    token: str | None

    @property
    def shown(self) -> str:
        return ", ".join(self.urls)


def servers_of(nats_url: str) -> Servers:
    """From URLs separated by commas. Raises SettingsError."""
    found = [urlsplit(url.strip()) for url in nats_url.split(",")]
    if len({url.scheme for url in found}) > 1:
        raise SettingsError("The URLs in NATS_URL must all have the same scheme.")
    logins = {(url.username, url.password) for url in found if url.username}
    if len(logins) > 1:
        raise SettingsError("The URLs in NATS_URL must all have the same user: servers of one cluster know the same ones.")
    # Apart from the URLs, so that no message of the library shows them, and servers that the cluster tells of are given them too.
    name, password = logins.pop() if logins else (None, None)
    urls = [f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}" for url in found]
    if name is not None and password is None:
        return Servers(urls, None, None, unquote(name))
    return Servers(urls, unquote(name) if name else None, unquote(password) if password else None, None)


class Link:
    """Used on one event loop; its methods wait a few seconds at most. `on_lost` is called when a connection ends."""

    def __init__(self, servers: Servers, *, on_lost: Callable[[], None]) -> None:
        self.servers = servers
        self._on_lost = on_lost
        self._client: _Client | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._away = False
        self._failures = 0
        self._tried = asyncio.Event()  # every server once, in vain
        self._closed = False

    async def client(self) -> Client:
        """A client that is connected; another one than before where the library had given up.

        Raises EventLogUnavailableError; HandedOverError once it is closed.
        """
        if self._client is not None and self._client.is_connected:
            return self._client
        if self._closed:
            raise HandedOverError("This process stops.")
        client, connecting = self._begun()
        await self._connected_or_tried(connecting)
        if connecting.done() and not connecting.cancelled() and (error := connecting.exception()) is not None:
            raise self.away() from error
        if not connecting.done() or not client.is_connected:
            raise self.away()
        return client

    def _begun(self) -> tuple["_Client", asyncio.Task[None]]:
        client, connecting = self._client, self._connecting
        if client is None or connecting is None or (connecting.done() and client.is_closed):
            self._client = client = _Client(must_have_tls=self.servers.urls[0].startswith("tls:"))
            self._connecting = connecting = asyncio.create_task(self._connect(client))
            self._failures = 0
            self._tried.clear()
        return client, connecting

    async def _connected_or_tried(self, connecting: asyncio.Task[None]) -> None:
        if connecting.done() or self._tried.is_set():
            return
        tried = asyncio.create_task(self._tried.wait())
        try:
            await asyncio.wait({connecting, tried}, timeout=_CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tried.cancel()

    def away(self) -> EventLogUnavailableError:
        return EventLogUnavailableError(f"NATS at {self.servers.shown} is away. Check that it runs and can be reached, then try again.")

    async def ask(self, subject: str, body: Any = None) -> dict[str, Any]:
        """What JetStream's API answers, as it is: of what a newer server knows, the library's own types forget a part.

        Raises EventLogUnavailableError; HandedOverError once it is closed.
        """
        client = await self.client()
        try:
            answer = await client.request(_API + subject, b"" if body is None else msgspec.json.encode(body), timeout=_ASK_SECONDS)
        except nats.errors.NoRespondersError as error:
            raise EventLogUnavailableError(f"NATS at {self.servers.shown} has no JetStream for this account. Switch it on.") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise self.away() from error
        decoded = msgspec.json.decode(answer.data)
        assert isinstance(decoded, dict)
        return decoded

    async def close(self) -> None:
        """Sends what is on its way, and ends. May be called twice."""
        self._closed = True
        client, connecting = self._client, self._connecting
        self._client = self._connecting = None
        if client is None or connecting is None:
            return
        if client.is_connected and connecting.done():
            try:
                await client.flush(_END_SECONDS)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                get_logger(__name__).warning("NATS did not take the last messages", reason=_said(error))
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await client.close()

    async def _connect(self, client: "_Client") -> None:
        servers = self.servers
        await client.connect(
            servers=servers.urls,
            user=servers.user,
            password=servers.password,
            token=servers.token,
            name="penstock events",
            error_cb=self._failed,
            disconnected_cb=self._lost,
            reconnected_cb=self._back,
            closed_cb=self._ended,
            connect_timeout=int(_CONNECT_SECONDS),
            reconnect_time_wait=_AGAIN_SECONDS,
            max_reconnect_attempts=-1,
            ping_interval=_PING_SECONDS,
            drain_timeout=_END_SECONDS,
        )
        await self._back()

    async def _failed(self, error: Exception) -> None:
        # One attempt a second for as long as it is away: the first says it all.
        if not self._away and not self._closed:
            get_logger(__name__).warning("NATS: an error of the connection", where=self.servers.shown, reason=_said(error))
        self._away = self._away or self._client is None or not self._client.is_connected
        self._failures += 1
        if self._failures >= len(self.servers.urls):
            self._tried.set()

    async def _lost(self) -> None:
        if not self._closed:
            get_logger(__name__).error("NATS is away", where=self.servers.shown)
        self._away = True
        self._on_lost()

    async def _back(self) -> None:
        self._away = False
        get_logger(__name__).info("connected to NATS", where=self.servers.shown)

    async def _ended(self) -> None:
        if not self._closed:
            get_logger(__name__).error("NATS has ended the connection for good; the next use makes a new one", where=self.servers.shown)
            self._away = False


class _Client(Client):
    def __init__(self, *, must_have_tls: bool) -> None:
        super().__init__()
        self._must_have_tls = must_have_tls

    def _connect_command(self) -> bytes:
        """What holds the password. The library sends it in the clear where a server, or somebody in between, offers no TLS."""
        if self._must_have_tls and not self._server_info.get("tls_required"):
            raise nats.errors.Error("nats: the URL asks for TLS and the server does not offer it")
        return super()._connect_command()

    async def _process_connect_init(self) -> None:
        """The library tries again, for ever, after errors that it knows; with any other it would end its task, and never connect again."""
        try:
            await super()._process_connect_init()
        except (nats.errors.Error, OSError, TimeoutError):
            raise
        except Exception as error:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]  # the library has not annotated it
            raise nats.errors.Error(f"nats: what answers there is no NATS ({type(error).__name__})") from error


def has_no_responders(message: Msg) -> bool:
    return message.headers is not None and message.headers.get("Status") == _NO_RESPONDERS


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
