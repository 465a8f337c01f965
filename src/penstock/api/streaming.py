"""What a thread makes piece by piece, streamed to a client at the client's pace."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from litestar.response import Stream


async def from_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is made in a thread, when the one before has been taken. `pieces` must hold nothing between two of them."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
        await asyncio.sleep(0)  # a client that has left is noticed here


def download(pieces: Iterator[bytes], *, media_type: str, name: str) -> Stream:
    """A file that a browser saves as `name`, which is plain ASCII and made here."""
    return Stream(from_thread(pieces), media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
