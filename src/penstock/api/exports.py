"""The routes of queued exports: order one, look, fetch its file, cancel, retry."""

import asyncio

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec

from penstock.api.bodies import json_request
from penstock.api.exports_document import ExportOperation
from penstock.api.kinds import export_of
from penstock.api.ordering import export_of_wishes
from penstock.api.parameters import JobIdPath
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, base_url, services
from penstock.api.views import ExportCreated, ExportView, absolute, export_created, export_view
from penstock.errors import (
    BodyTimeoutError,
    ExportExpiredError,
    IdempotencyInProgressError,
    IdempotencyKeyReusedError,
    IncompleteBodyError,
    InvalidFilterError,
    InvalidIdError,
    InvalidOptionError,
    InvalidStateError,
    JobNotFoundError,
    PayloadTooLargeError,
    StorageUnavailableError,
    UnknownResourceError,
    UnsupportedMediaTypeError,
    UsageError,
)
from penstock.exports.wishes import wishes_of_body
from penstock.jobs.model import Job

_ROUTE = "POST /v1/exports"
_OF_JOB = (UsageError, InvalidOptionError, InvalidIdError, JobNotFoundError, StorageUnavailableError)


@post(
    "/exports",
    operation_id="create_export",
    tags=["exports"],
    summary="Order an export as a file",
    description="A worker writes the file to storage. Follow the job; once it is COMPLETED its file can be fetched until `expires_at`. For "
    "records at once there is `GET /v1/exports`.",
    status_code=202,
    response_description="The job, which waits for a worker.",
    responses={
        200: ResponseSpec(
            ExportCreated, generate_examples=False, description="The same request was made before with this Idempotency-Key: its job."
        ),
        **problems(
            UsageError, InvalidOptionError, InvalidFilterError, UnknownResourceError, UnsupportedMediaTypeError, PayloadTooLargeError,
            IncompleteBodyError, BodyTimeoutError, IdempotencyInProgressError, IdempotencyKeyReusedError,
        ),
    },
    operation_class=ExportOperation,
)  # fmt: skip
async def create_export(request: AnyRequest) -> Response[ExportCreated]:
    wishes = wishes_of_body(services(request).application.registry, await json_request(request, exact=True))
    job, made = await export_of_wishes(request, _ROUTE, wishes)
    return Response(export_created(job, base_url(request)), status_code=202 if made else 200)


@get(
    "/exports/{job_id:str}",
    operation_id="get_export",
    tags=["exports"],
    summary="An export",
    responses=problems(*_OF_JOB),
    sync_to_thread=True,
)
def get_export(request: AnyRequest, job_id: JobIdPath) -> ExportView:
    return _show(request, export_of(services(request).application, job_id))


@get(
    "/exports/{job_id:str}/download",
    operation_id="download_export",
    tags=["exports"],
    summary="Fetch the file of an export",
    description="Leads to a signed link, made anew. The link expires, the address does not.",
    status_code=307,
    responses={
        307: ResponseSpec(None, generate_examples=False, description="The file is at `Location`."),
        **problems(*_OF_JOB, InvalidStateError, ExportExpiredError),
    },
)
async def download_export(request: AnyRequest, job_id: JobIdPath) -> Response[bytes]:
    application = services(request).application

    def signed() -> str:
        return absolute(application.exports.link(export_of(application, job_id)), base_url(request))

    return Response(b"", status_code=307, media_type="text/plain", headers={"Location": await asyncio.to_thread(signed)})


@post(
    "/exports/{job_id:str}/cancel",
    operation_id="cancel_export",
    tags=["exports"],
    summary="Stop an export",
    description="It leaves no file behind.",
    status_code=200,
    response_description="The job as it is now; follow it to see it end.",
    responses=problems(*_OF_JOB, InvalidStateError),
    sync_to_thread=True,
)
def cancel_export(request: AnyRequest, job_id: JobIdPath) -> ExportView:
    application = services(request).application
    return _show(request, application.exports.cancel(export_of(application, job_id).job_id))


@post(
    "/exports/{job_id:str}/retry",
    operation_id="retry_export",
    tags=["exports"],
    summary="Let a failed or cancelled export begin anew",
    description="From a new snapshot.",
    status_code=202,
    response_description="The job, which waits for a worker.",
    responses=problems(*_OF_JOB, InvalidStateError),
    sync_to_thread=True,
)
def retry_export(request: AnyRequest, job_id: JobIdPath) -> ExportView:
    application = services(request).application
    return _show(request, application.exports.retry(export_of(application, job_id).job_id))


def _show(request: AnyRequest, job: Job) -> ExportView:
    return export_view(services(request).application, job, base_url(request))


ROUTES = [create_export, get_export, download_export, cancel_export, retry_export]
