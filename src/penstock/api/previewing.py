"""POST /v1/imports/preview: what an import would see of a file, from its beginning."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from litestar import post

from penstock.api import reading
from penstock.api.bodies import body_of, json_of
from penstock.api.few import one_of_few
from penstock.api.parameters import ANY_QUERY
from penstock.api.problems import problems
from penstock.api.receiving import OF_BODIES
from penstock.api.receiving_document import PreviewOperation
from penstock.api.services import AnyRequest, services
from penstock.bootstrap import Application
from penstock.errors import EmptyFileError
from penstock.intake.bodies import collected
from penstock.intake.heads import HEAD_BYTES, HeadSource, head_of
from penstock.intake.media import MULTIPART, media_of
from penstock.intake.multipart import BEYOND_BYTES, FormCutShort, read_form
from penstock.intake.previews import Preview, preview
from penstock.intake.wishes import Wishes, wishes_of
from penstock.sources.fetching import fetch
from penstock.sources.model import Source
from penstock.sources.places import RemoteUrl

_FETCH_SECONDS = 60  # a person waits
_PARQUET_BYTES = 64 * 1024 * 1024  # a larger one is not copied from a bucket only to be looked at


@post(
    "/imports/preview",
    operation_id="preview_import",
    tags=["imports"],
    summary="Look at a file before it is imported",
    description="How it is written, which column stands for which field, its first 20 records and what is wrong with them. Only the first "
    "MiB is looked at; of a file that comes with the request the rest is not read. Without `resource`: only how it is written. In a form "
    "all fields stand before the file.",
    status_code=200,
    response_description="What was found.",
    responses=problems(*OF_BODIES),
    opt={ANY_QUERY: True},
    request_max_body_size=None,
    operation_class=PreviewOperation,
)
async def preview_import(request: AnyRequest) -> Preview:
    application = services(request).application
    query = reading.query_of(request)
    media = media_of(request.headers.get("content-type"), request.headers.get("content-encoding"), format_given=query.get("format"))
    if media.type == MULTIPART:
        reading.refuse_query(query)
        wishes, source = await _of_form(request)
    elif media.name is not None:
        wishes = reading.raw_wishes(media, query)
        source = await _head(media.name, body_of(request))
    else:
        reading.refuse_query(query)
        given = await json_of(request)
        return await asyncio.to_thread(_of_source, application, given)
    return await asyncio.to_thread(_previewed, application, wishes, source, None)


async def _head(name: str, chunks: AsyncIterator[bytes]) -> HeadSource:
    data, whole = await collected(chunks, HEAD_BYTES)
    if not data:
        raise EmptyFileError(f"{name} is empty: it has no bytes. Send the file.")
    return HeadSource(name, data, whole=whole)


async def _of_form(request: AnyRequest) -> tuple[Wishes, HeadSource]:
    """The fields that stand before the file, and the file's beginning; behind that nothing is read of a file that goes on."""
    fields: dict[str, str] = {}

    async def receive(name: str, chunks: AsyncIterator[bytes]) -> HeadSource:
        source = await _head(name, chunks)
        if not source.whole:
            raise FormCutShort(fields, source)
        return source

    async def discard(_source: HeadSource) -> None:
        return

    try:
        form = await read_form(
            body_of(request, beyond_bytes=BEYOND_BYTES),
            request.headers["content-type"],
            receive=receive,
            discard=discard,
            check=fields.update,
            max_file_bytes=services(request).application.settings.max_upload_bytes,
        )
    except FormCutShort as cut:
        return wishes_of(cut.fields), cut.file
    return wishes_of(form.fields), form.file


def _of_source(application: Application, given: Mapping[str, Any]) -> Preview:
    wishes = wishes_of(given, beside=reading.SOURCES)
    place, file = reading.named_source(application, given)
    resource = file.resource if file is not None else None
    if isinstance(place, RemoteUrl):
        return _previewed(application, wishes, _fetched_head(application, place.url), resource)
    source = application.sources.open(place)
    head = head_of(source)
    readable = source.local_path() is not None or source.size <= _PARQUET_BYTES
    return _previewed(application, wishes, source if head.is_parquet and readable else head, resource)


def _fetched_head(application: Application, url: str) -> HeadSource:
    settings, held, whole = application.settings, bytearray(), True
    networks = settings.file_url_allowed_networks
    never, most_bytes = threading.Event(), settings.max_upload_bytes
    with one_of_few(), fetch(url, allowed=networks, max_bytes=most_bytes, total_seconds=_FETCH_SECONDS, cancel=never) as file:
        for chunk in file.chunks:
            held += chunk
            if len(held) > HEAD_BYTES:
                whole = False
                break
        return HeadSource(file.name, bytes(held[:HEAD_BYTES]), whole=whole)


def _previewed(application: Application, wishes: Wishes, source: Source, default: str | None) -> Preview:
    name = wishes.resource or default
    resource = None if name is None else application.registry.get(name)
    read = msgspec.structs.replace(wishes.read, max_record_bytes=application.settings.max_record_bytes)
    return preview(source, resource, read, wishes.options)


ROUTES = [preview_import]
