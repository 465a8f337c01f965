"""What the body of an import request can be: a form, the file itself, or JSON that names a source."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from penstock.api.bodies import body_of
from penstock.api.few import one_of_few
from penstock.api.ordering import Order, discarded, in_storage
from penstock.api.parameters import uuid_of
from penstock.api.services import AnyRequest, services
from penstock.bootstrap import Application
from penstock.errors import InvalidOptionError, InvalidSourceError
from penstock.idempotency import fingerprint
from penstock.intake.bodies import BodyLimits
from penstock.intake.files import Counted
from penstock.intake.media import Media
from penstock.intake.model import ReceivedFile
from penstock.intake.multipart import BEYOND_BYTES, read_form
from penstock.intake.paths import path_below
from penstock.intake.wishes import Wishes, wishes_of
from penstock.sources.fetching import check_url, name_of_url
from penstock.sources.places import LocalFile, Place, RemoteUrl
from penstock.storage.model import Key

SOURCES = ("file_url", "source_path", "upload_id")


def query_of(request: AnyRequest) -> dict[str, str]:
    """Each parameter once. Raises InvalidOptionError."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidOptionError(f"The parameter {name[:100]} is given more than once.", parameter=name[:100])
        given[name] = value
    return given


def refuse_query(query: Mapping[str, str]) -> None:
    """Raises InvalidOptionError: only where the body is the file itself is there no other place for options."""
    if query:
        name = next(iter(query))[:100]
        raise InvalidOptionError(f"The parameter {name!r} belongs into the body: the query is for files sent as they are.", parameter=name)


def resource_of(application: Application, wishes: Wishes, default: str | None = None) -> str:
    """Raises InvalidOptionError, UnknownResourceError."""
    if (name := wishes.resource or default) is None:
        names = list(application.registry.names)
        raise InvalidOptionError(f"resource: say what the records are, one of {', '.join(names)}.", option="resource", allowed=names)
    application.registry.get(name)
    return name


def raw_wishes(media: Media, given: Mapping[str, Any]) -> Wishes:
    """Options of a raw body; its Content-Type may name the encoding."""
    wishes = wishes_of(given)
    if wishes.read.encoding is not None or not media.charset:
        return wishes
    return wishes_of({**given, "encoding": media.charset})


async def read_raw(request: AnyRequest, media: Media, wishes: Wishes, resource: str, *, store: bool) -> Order:
    assert media.name is not None
    file = await _received(request, media.name, body_of(request), resource, store=store)
    place = await _checked(services(request).application, file) if store else None
    return Order(resource=resource, wishes=wishes, place=place, body=str(file.sha256), file=file, fresh=True)


async def read_multipart(request: AnyRequest, *, store: bool) -> Order:
    application = services(request).application

    def check(fields: dict[str, str]) -> None:
        wishes = wishes_of(fields)
        if wishes.resource is not None:
            resource_of(application, wishes)

    async def receive(name: str, chunks: AsyncIterator[bytes]) -> ReceivedFile:
        return await _received(request, name, chunks, None, store=store)

    async def discard(file: ReceivedFile) -> None:
        if store:
            await asyncio.shield(asyncio.to_thread(discarded, application, file))

    form = await read_form(
        body_of(request, beyond_bytes=BEYOND_BYTES),
        request.headers["content-type"],
        receive=receive,
        discard=discard,
        check=check,
        max_file_bytes=BodyLimits.of(application.settings).max_bytes,
    )
    try:
        wishes = wishes_of(form.fields)
        resource = resource_of(application, wishes)
        place = in_storage(form.file) if store else None
    except BaseException:
        await discard(form.file)
        raise
    body = fingerprint({**wishes.asked(), "name": form.file.name, "sha256": form.file.sha256})
    return Order(resource=resource, wishes=wishes, place=place, body=body, file=form.file, fresh=True)


def named_source(application: Application, given: Mapping[str, Any]) -> tuple[Place, ReceivedFile | None]:
    """The one source that a JSON request names, and the upload if it is one. Not for the event loop.

    Raises InvalidSourceError, ForbiddenUrlError, DownloadFailedError, UploadNotFoundError, PayloadTooLargeError, EmptyFileError,
    OverloadedError.
    """
    name, value = source_given(given)
    if name == "source_path":
        return LocalFile(path=str(path_below(application.settings.import_base_dir, value))), None
    if name == "file_url":
        with one_of_few():
            url = check_url(value, allowed=application.settings.file_url_allowed_networks)
        return RemoteUrl(url=url, name=name_of_url(url)), None
    file = application.files.arrived(UUID(uuid_of(value, "an upload")))
    return in_storage(file), file


def source_given(given: Mapping[str, Any]) -> tuple[str, str]:
    """Raises InvalidSourceError unless there is exactly one."""
    names = [name for name in SOURCES if given.get(name) is not None]
    if len(names) != 1:
        said = f"there are {' and '.join(names)}" if names else "there is none"
        raise InvalidSourceError(f"Name one source, by file_url, source_path or upload_id; {said}.", allowed=list(SOURCES))
    if not isinstance(value := given[names[0]], str) or not value:
        raise InvalidSourceError(f"{names[0]} must be a text, and not an empty one.")
    return names[0], value


async def _checked(application: Application, file: ReceivedFile) -> Place:
    try:
        return in_storage(file)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(discarded, application, file))
        raise


async def _received(request: AnyRequest, name: str, chunks: AsyncIterator[bytes], resource: str | None, *, store: bool) -> ReceivedFile:
    if store:
        return await services(request).application.files.receive(name, chunks, resource=resource)
    counted = Counted(chunks)
    try:
        async for _chunk in counted:
            pass
    except BaseException as error:
        counted.raise_fault(error)
        raise
    return ReceivedFile(key=Key("none"), name=name, size=counted.size, sha256=counted.sha256)


def asked_of(wishes: Wishes, **more: Any) -> dict[str, Any]:
    return {**wishes.asked(), **msgspec.to_builtins(more)}
