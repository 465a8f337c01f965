"""PUT and GET of single objects by a signed link, where storage is a folder of the server's own. With a bucket clients go there."""

import asyncio
import re
from collections.abc import AsyncIterator

from litestar import Response, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream

from penstock.api.bodies import body_of
from penstock.api.parameters import ANY_QUERY
from penstock.api.problems import problems
from penstock.api.receiving_document import PutOperation
from penstock.api.services import AnyRequest, services
from penstock.errors import (
    BodyTimeoutError,
    IncompleteBodyError,
    InvalidLinkError,
    InvalidStateError,
    ObjectNotFoundError,
    PayloadTooLargeError,
    StorageUnavailableError,
    UploadNotFoundError,
)
from penstock.storage import Key, Method, verify_link
from penstock.storage.disposition import attachment

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_BINARY = "application/octet-stream"
_SIGNED = "Only by a signed link, exactly as it was given."


@put(
    "/storage/{key:path}",
    operation_id="put_object",
    tags=["uploads"],
    summary="Send a file to where an upload was offered",
    description=_SIGNED + " The file can be sent again until an import has it.",
    status_code=200,
    response_description="The file is whole and stored.",
    responses=problems(
        InvalidLinkError, UploadNotFoundError, InvalidStateError, IncompleteBodyError, BodyTimeoutError, PayloadTooLargeError,
        StorageUnavailableError,
    ),
    opt={ANY_QUERY: True},
    request_max_body_size=None,
    operation_class=PutOperation,
)  # fmt: skip
async def put_object(request: AnyRequest, key: FromPath[str]) -> Response[bytes]:
    checked = await asyncio.to_thread(_verified, request, Method.PUT, key)
    await services(request).application.files.accept(checked, body_of(request))
    return Response(b"", status_code=200, media_type=_BINARY)


@get(
    "/storage/{key:path}",
    operation_id="get_object",
    tags=["uploads"],
    summary="Fetch a file by a signed link",
    description=_SIGNED + " One `Range` is honoured.",
    responses={
        200: ResponseSpec(bytes, generate_examples=False, description="The file.", media_type=_BINARY),
        206: ResponseSpec(bytes, generate_examples=False, description="The part that was asked for.", media_type=_BINARY),
        416: ResponseSpec(None, generate_examples=False, description="The file has no such part; Content-Range tells its size."),
        **problems(InvalidLinkError, ObjectNotFoundError, StorageUnavailableError),
    },
    opt={ANY_QUERY: True},
)
async def get_object(request: AnyRequest, key: FromPath[str]) -> Response[bytes] | Stream:
    checked = await asyncio.to_thread(_verified, request, Method.GET, key)
    storage = services(request).application.storage
    found = await asyncio.to_thread(storage.stat, checked)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(request.query_params.get("filename")),
        "ETag": f'"{found.version}"',
        "X-Content-Type-Options": "nosniff",
    }
    part = _part(request, found.size, headers["ETag"])
    if part is None:
        return Response(b"", status_code=416, media_type=_BINARY, headers={"Content-Range": f"bytes */{found.size}"})
    start, length = part
    status = 200
    if length != found.size:
        status, headers["Content-Range"] = 206, f"bytes {start}-{start + length - 1}/{found.size}"
    headers["Content-Length"] = str(length)
    blocks = await storage.stream(checked, start, length)
    return Stream(_paced(blocks), status_code=status, media_type=_BINARY, headers=headers)


async def _paced(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield block
        await asyncio.sleep(0)  # a client that has left is noticed here


def _verified(request: AnyRequest, method: Method, path: str) -> Key:
    key = path.removeprefix("/")
    verify_link(services(request).application.link_secret, method, key, request.query_params)
    return Key(key)


def _part(request: AnyRequest, size: int, etag: str) -> tuple[int, int] | None:
    """Offset and length; None for a part that the file does not have. What is no single range of bytes is passed over (RFC 9110, 14.2)."""
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or asked[0] == "bytes=-" or request.headers.get("if-range", etag) != etag:
        return 0, size
    first, last = asked.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length else None
    start, end = int(first), min(int(last or size), size - 1)
    if last and int(last) < start:
        return 0, size
    return (start, end - start + 1) if start < size else None


ROUTES = [put_object, get_object]
