"""An export on its way to a client: its first piece before the head of the answer, then piece by piece at the client's pace."""

import asyncio
import time
from collections.abc import Generator
from typing import cast

from litestar.types import Message, Receive, Scope, Send

from penstock.api.handing import Handing
from penstock.api.problems import HEAD_ONLY
from penstock.api.services import Services
from penstock.errors import ClientStalledError, ExportTimeoutError
from penstock.exports.model import ExportWishes
from penstock.exports.producing import Export
from penstock.formats.model import Compression
from penstock.logs import get_logger
from penstock.storage.disposition import attachment

_LAST_SECONDS = 1.0
_TOKENS = {Compression.GZIP: b"gzip", Compression.ZSTD: b"zstd"}


class StreamedExport:
    """An ASGI application that answers one request. `export` is not entered yet."""

    def __init__(self, here: Services, export: Export, wishes: ExportWishes, coding: Compression) -> None:
        self._here, self._export, self._wishes, self._coding = here, export, wishes, coding
        self._sent_bytes = 0
        self._begun = self._all_made = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the export raises: before the head it becomes a problem, after it the answer breaks off."""
        if HEAD_ONLY in scope["state"]:
            await send(self._head())
            return
        began = time.perf_counter()
        sending = asyncio.create_task(self._send(send), name="export")
        leaving = asyncio.create_task(_left(receive), name="export-client")
        how = "cut off"
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if self._all_made:
                # Who has the last chunk may leave before we are told that it is out.
                await asyncio.wait({sending}, timeout=_LAST_SECONDS)
            if sending.done():
                how = "broken off" if self._begun else "refused"
                sending.result()
                how = "whole"
            else:
                how = "left by its client"
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
            self._log(how, time.perf_counter() - began)

    async def _send(self, send: Send) -> None:
        settings = self._here.application.settings
        whole = asyncio.timeout(settings.export_total_seconds)
        try:
            async with whole:
                async with Handing(self._pieces, self._export.cancel, name="export") as handing:
                    piece = await handing.next()
                    self._begun = True
                    await send(self._head())
                    while piece is not None:
                        await self._send_piece(send, piece, settings.export_idle_seconds)
                        piece = await handing.next()
                self._all_made = True
                await send(_body(b"", more=False))
        except TimeoutError:
            if not whole.expired():
                raise
            raise ExportTimeoutError(f"The export took longer than {settings.export_total_seconds} s (EXPORT_TOTAL_SECONDS).") from None

    async def _send_piece(self, send: Send, piece: bytes, idle_seconds: int) -> None:
        idle = asyncio.timeout(idle_seconds)
        try:
            async with idle:
                await send(_body(piece, more=True))
        except TimeoutError:
            if not idle.expired():
                raise
            raise ClientStalledError(f"The client has taken nothing for {idle_seconds} s (EXPORT_IDLE_SECONDS).") from None
        self._sent_bytes += len(piece)

    def _pieces(self) -> Generator[bytes, None, None]:
        with self._export as export:
            yield from export.pieces()

    def _head(self) -> Message:
        kind = self._export.media_type
        headers = [
            (b"content-type", (f"{kind}; charset=utf-8" if kind.startswith("text/") else kind).encode("ascii")),
            (b"content-disposition", attachment(self._export.name).encode("ascii")),
            (b"vary", b"accept-encoding"),
        ]
        if self._coding is not Compression.NONE:
            headers.append((b"content-encoding", _TOKENS[self._coding]))
        return cast("Message", {"type": "http.response.start", "status": 200, "headers": headers})

    def _log(self, how: str, seconds: float) -> None:
        get_logger(__name__).info(
            "export streamed",
            how=how,
            resource=self._wishes.resource,
            format=self._wishes.format.value,
            coding=self._coding.value,
            rows=self._export.rows,
            sent_bytes=self._sent_bytes,
            seconds=round(seconds, 3),
        )


async def _left(receive: Receive) -> None:
    """Until the client leaves. What it sends besides is passed over."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(data: bytes, *, more: bool) -> Message:
    return cast("Message", {"type": "http.response.body", "body": data, "more_body": more})
