"""The routes that take files and start imports."""

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter

from penstock.api import reading
from penstock.api.bodies import json_of, json_request
from penstock.api.ordering import Order, job_of
from penstock.api.parameters import ANY_QUERY
from penstock.api.problems import problems
from penstock.api.receiving_document import ImportOperation, SourceImportOperation, UploadOperation
from penstock.api.services import AnyRequest, base_url, services
from penstock.api.views import ImportCreated, import_created
from penstock.errors import (
    BodyTimeoutError,
    DownloadFailedError,
    EmptyFileError,
    ForbiddenUrlError,
    IdempotencyInProgressError,
    IdempotencyKeyReusedError,
    IncompleteBodyError,
    InvalidIdError,
    InvalidOptionError,
    InvalidSourceError,
    MalformedMultipartError,
    PayloadTooLargeError,
    StorageUnavailableError,
    TruncatedFileError,
    UnknownFormatError,
    UnknownResourceError,
    UnsupportedMediaTypeError,
    UploadNotFoundError,
    UsageError,
)
from penstock.intake.media import MULTIPART, media_of
from penstock.intake.paths import check_ending
from penstock.intake.wishes import wishes_of
from penstock.jobs.model import Job

OF_BODIES = (
    UsageError,
    InvalidOptionError,
    InvalidSourceError,
    InvalidIdError,
    ForbiddenUrlError,
    MalformedMultipartError,
    IncompleteBodyError,
    UnknownResourceError,
    UploadNotFoundError,
    BodyTimeoutError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    UnknownFormatError,
    EmptyFileError,
    TruncatedFileError,
    DownloadFailedError,
    StorageUnavailableError,
)
_OF_IMPORTS = problems(*OF_BODIES, IdempotencyInProgressError, IdempotencyKeyReusedError)
_ROUTE, _ROUTE_OF_RESOURCE = "POST /v1/imports", "POST /v1/imports/{resource}"
_FIRST = "The same request was made before with this Idempotency-Key: its job."


class UploadOffer(msgspec.Struct, frozen=True, kw_only=True):
    """Where to PUT the file, and what to name when the import is started."""

    upload_id: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]
    method: str
    url: Annotated[str, msgspec.Meta(description="Signed: whoever has it may send this one file until it expires.")]
    headers: Annotated[dict[str, str], msgspec.Meta(description="Headers that the PUT must have.")]
    expires_at: str


class QueuedJob(msgspec.Struct, frozen=True, kw_only=True):
    job_id: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]
    status: str


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """A job that waits for a worker, as the earlier systems said it."""

    data: QueuedJob


@post(
    "/imports",
    operation_id="create_import",
    tags=["imports"],
    summary="Start an import",
    description="The file comes with the request (as a form, or as its body), or the request names where it is. The answer comes when the "
    "file is whole and stored; follow the job to see how its records fare.",
    status_code=202,
    response_description="The job, which waits for a worker.",
    responses={200: ResponseSpec(ImportCreated, generate_examples=False, description=_FIRST), **_OF_IMPORTS},
    opt={ANY_QUERY: True},
    request_max_body_size=None,
    operation_class=ImportOperation,
)
async def create_import(request: AnyRequest) -> Response[ImportCreated]:
    query = reading.query_of(request)
    media = media_of(request.headers.get("content-type"), request.headers.get("content-encoding"), format_given=query.get("format"))
    if media.type == MULTIPART:
        reading.refuse_query(query)
        job, made = await job_of(request, _ROUTE, {"body": "form"}, lambda store: reading.read_multipart(request, store=store))
    elif media.name is not None:
        wishes = reading.raw_wishes(media, query)
        resource = reading.resource_of(services(request).application, wishes)
        parameters = reading.asked_of(wishes, name=media.name)
        job, made = await job_of(request, _ROUTE, parameters, lambda store: reading.read_raw(request, media, wishes, resource, store=store))
    else:
        reading.refuse_query(query)
        job, made = await _from_source(request, _ROUTE, await json_of(request))
    return Response(import_created(job, base_url(request)), status_code=202 if made else 200)


@post(
    "/imports/{resource:str}",
    operation_id="import_source_path",
    tags=["imports"],
    summary="Import a file of the server's machine",
    description="The form of earlier systems: a .json, .ndjson or .csv file below IMPORT_BASE_DIR (also with .gz or .zst).",
    status_code=202,
    response_description="The job, which waits for a worker.",
    responses={200: ResponseSpec(Queued, generate_examples=False, description=_FIRST), **_OF_IMPORTS},
    operation_class=SourceImportOperation,
)
async def import_source_path(
    request: AnyRequest, resource: Annotated[str, PathParameter(description="What the records are.")]
) -> Response[Queued]:
    services(request).application.registry.get(resource)
    given = await json_request(request)
    if not isinstance(path := given.get("source_path"), str):
        raise InvalidSourceError("source_path must be the path of a file below the server's import folder.")
    check_ending(path)
    job, made = await _from_source(request, _ROUTE_OF_RESOURCE, given, resource)
    return Response(Queued(data=QueuedJob(job_id=job.job_id, status="queued")), status_code=202 if made else 200)


@post(
    "/uploads",
    operation_id="create_upload",
    tags=["uploads"],
    summary="Ask for a place to send a file to",
    description="PUT the file to `url`, then start an import with `upload_id`; several imports may use one upload. It is kept until a day "
    "after the link has expired, and longer while an import needs it.",
    status_code=201,
    response_description="The place.",
    responses=problems(
        UsageError, InvalidOptionError, UnknownResourceError, UnsupportedMediaTypeError, PayloadTooLargeError, IncompleteBodyError,
        BodyTimeoutError, StorageUnavailableError,
    ),
    operation_class=UploadOperation,
)  # fmt: skip
async def create_upload(request: AnyRequest) -> UploadOffer:
    application = services(request).application
    given = await json_request(request)
    if unknown := sorted(given.keys() - {"filename", "resource"}):
        raise InvalidOptionError(f"There is no option {unknown[0][:100]!r}; there are filename, resource.", option=unknown[0][:100])
    filename, resource = given.get("filename"), given.get("resource")
    if not isinstance(filename, str) or not filename:
        raise InvalidOptionError("filename: must be the file's name; its ending tells the format.", option="filename")
    if "resource" in given:
        if not isinstance(resource, str):
            raise InvalidOptionError("resource: must be a text.", option="resource")
        application.registry.get(resource)
    upload = await asyncio.to_thread(application.files.offer, filename, resource)
    link = upload.link
    url = base_url(request) + link.url if link.url.startswith("/") else link.url
    return UploadOffer(
        upload_id=str(upload.upload_id),
        method=link.method.value,
        url=url,
        headers=link.headers,
        expires_at=link.expires_at.isoformat().replace("+00:00", "Z"),
    )


async def _from_source(request: AnyRequest, route: str, given: dict[str, Any], resource: str | None = None) -> tuple[Job, bool]:
    application = services(request).application
    wishes = wishes_of(given, beside=reading.SOURCES)
    if resource is not None and wishes.resource not in (None, resource):
        raise InvalidOptionError(f"resource: the address says {resource}, the body {str(wishes.resource)[:100]!r}.", option="resource")
    name, value = reading.source_given(given)

    async def read(store: bool) -> Order:
        if not store:
            return Order(resource="", wishes=wishes, place=None, body="")
        place, file = await asyncio.to_thread(reading.named_source, application, given)
        known = reading.resource_of(application, wishes, resource or (file.resource if file else None))
        return Order(resource=known, wishes=wishes, place=place, body="", file=file)

    if name != "upload_id":
        reading.resource_of(application, wishes, resource)
    return await job_of(request, route, reading.asked_of(wishes, path_resource=resource, source={name: value}), read)


ROUTES = [create_import, import_source_path, create_upload]
