"""The routes of jobs: list, look, cancel, retry, follow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from penstock.api.events import COMMENT_SECONDS
from penstock.api.kinds import import_of
from penstock.api.parameters import PER_PAGE, Cursor, JobIdPath, Limit, decoded_cursor, job_id_of
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, Services, base_url, services
from penstock.api.views import AnyJobView, ImportList, ImportView, JobList, import_list, import_view, job_list, job_view
from penstock.errors import InvalidIdError, InvalidOptionError, InvalidStateError, JobNotFoundError, StorageUnavailableError, UsageError
from penstock.jobs.model import Job, JobStatus, JobType

_OF_LIST = problems(UsageError, InvalidOptionError)
_OF_JOB = problems(UsageError, InvalidOptionError, InvalidIdError, JobNotFoundError, StorageUnavailableError)
_OF_CHANGE = problems(UsageError, InvalidOptionError, InvalidIdError, JobNotFoundError, InvalidStateError, StorageUnavailableError)
Status = Annotated[JobStatus | None, QueryParameter(description="Only jobs in this state.", required=False)]
OfType = Annotated[JobType | None, QueryParameter(name="type", description="Only jobs of this kind.", required=False)]
OfResource = Annotated[str | None, QueryParameter(description="Only jobs of this resource.", required=False)]


def _page(
    request: AnyRequest, *, kind: JobType | None, status: JobStatus | None, resource: str | None, limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    application = services(request).application
    if resource is not None and resource not in application.registry.names:
        names = list(application.registry.names)
        raise InvalidOptionError(
            f"There is no resource {resource[:100]!r}; there are {', '.join(names)}.", resource=resource, allowed=names
        )
    return application.jobs.list(
        type=kind, status=status.value if status else None, resource=resource, limit=limit, cursor=decoded_cursor(cursor)
    )


def _show(request: AnyRequest, job: Job) -> ImportView:
    return import_view(services(request).application, job, base_url(request))


@get(
    "/imports",
    operation_id="list_imports",
    tags=["imports"],
    summary="Imports, the newest first",
    responses=_OF_LIST,
    sync_to_thread=True,
)
def list_imports(
    request: AnyRequest, status: Status = None, resource: OfResource = None, limit: Limit = PER_PAGE, cursor: Cursor = None
) -> ImportList:
    jobs, following = _page(request, kind=JobType.IMPORT, status=status, resource=resource, limit=limit, cursor=cursor)
    return import_list(services(request).application, jobs, following, base_url(request))


@get(
    "/jobs",
    operation_id="list_jobs",
    tags=["jobs"],
    summary="Jobs of every kind, the newest first",
    responses=_OF_LIST,
    sync_to_thread=True,
)
def list_jobs(
    request: AnyRequest,
    *,
    kind: OfType = None,
    status: Status = None,
    resource: OfResource = None,
    limit: Limit = PER_PAGE,
    cursor: Cursor = None,
) -> JobList:
    jobs, following = _page(request, kind=kind, status=status, resource=resource, limit=limit, cursor=cursor)
    return job_list(services(request).application, jobs, following, base_url(request))


@get("/imports/{job_id:str}", operation_id="get_import", tags=["imports"], summary="An import", responses=_OF_JOB, sync_to_thread=True)
def get_import(request: AnyRequest, job_id: JobIdPath) -> ImportView:
    return _show(request, import_of(services(request).application, job_id))


@get("/jobs/{job_id:str}", operation_id="get_job", tags=["jobs"], summary="A job", responses=_OF_JOB, sync_to_thread=True)
def get_job(request: AnyRequest, job_id: JobIdPath) -> AnyJobView:
    application = services(request).application
    return job_view(application, application.jobs.get(job_id_of(job_id)), base_url(request))


@post(
    "/imports/{job_id:str}/cancel",
    operation_id="cancel_import",
    tags=["imports"],
    summary="Stop an import",
    description="Stops after the waves in flight; what has landed stays. A job that nobody works on is cancelled at once.",
    status_code=200,
    response_description="The job as it is now; follow it to see it end.",
    responses=_OF_CHANGE,
    sync_to_thread=True,
)
def cancel_import(request: AnyRequest, job_id: JobIdPath) -> ImportView:
    application = services(request).application
    return _show(request, application.imports.cancel(import_of(application, job_id).job_id))


@post(
    "/imports/{job_id:str}/retry",
    operation_id="retry_import",
    tags=["imports"],
    summary="Let a failed or cancelled import go on",
    description="It goes on where it stopped; what has landed is not applied again.",
    status_code=202,
    response_description="The job, which waits for a worker.",
    responses=_OF_CHANGE,
    sync_to_thread=True,
)
def retry_import(request: AnyRequest, job_id: JobIdPath) -> ImportView:
    application = services(request).application
    return _show(request, application.imports.retry(import_of(application, job_id).job_id))


@get(
    "/jobs/{job_id:str}/events",
    operation_id="follow_job",
    tags=["jobs"],
    summary="A job as it changes",
    description="Server-sent events: the job at once, then at every change (`event: job`, the job as JSON in `data`), until it ends. A "
    "stream that ends before the job did was ended by a server that stops: connect again.",
    responses={
        200: ResponseSpec(str, generate_examples=False, description="The stream of events.", media_type="text/event-stream"),
        **_OF_JOB,
    },
)
async def follow_job(request: AnyRequest, job_id: JobIdPath) -> Stream:
    here = services(request)
    here.hub.check_room()
    job = await asyncio.to_thread(here.application.jobs.get, job_id_of(job_id))
    events = _events(here, job, base_url(request))
    return Stream(events, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _events(here: Services, job: Job, base: str) -> AsyncIterator[bytes]:
    """The job now, then each later state; a comment in between so that nobody on the way takes the connection for dead."""
    yield await _event(here, job, base)
    if job.status.finished:
        return
    async with here.hub.listener(job) as listener:
        while not listener.over:
            news = await listener.next(COMMENT_SECONDS)
            if news is not None:
                yield await _event(here, news, base)
                if news.status.finished:
                    return
            elif not listener.over:
                yield b": still here\n\n"


async def _event(here: Services, job: Job, base: str) -> bytes:
    view = await asyncio.to_thread(job_view, here.application, job, base)
    return b"event: job\nid: " + job.updated_at.isoformat().encode() + b"\ndata: " + msgspec.json.encode(view, enc_hook=str) + b"\n\n"


ROUTES = [list_imports, list_jobs, get_import, get_job, cancel_import, retry_import, follow_job]
