"""GET /v1/imports/{job_id}/errors and /rejected: what was wrong, and the records to mend."""

from typing import Annotated

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from penstock.api.kinds import import_of
from penstock.api.parameters import JobIdPath
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, services
from penstock.api.streaming import download
from penstock.errors import InvalidIdError, InvalidOptionError, JobNotFoundError, UsageError
from penstock.formats.reporting import ReportFormat, encoded

REJECTED_TYPES = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
_ERRORS = problems(UsageError, InvalidOptionError, InvalidIdError, JobNotFoundError)
ErrorsFormat = Annotated[ReportFormat, QueryParameter(name="format", description="How the report is written.", required=False)]


def _file(description: str) -> ResponseSpec:
    return ResponseSpec(bytes, generate_examples=False, description=description, media_type="*/*")


@get(
    "/imports/{job_id:str}/errors",
    name="list_import_errors",
    operation_id="list_import_errors",
    tags=["imports"],
    summary="Every problem of an import",
    description="One error record per problem, in row order, never capped. Streamed; a job that is still running gives what it has so far.",
    responses={200: _file("Error records, one per problem."), **_ERRORS},
    sync_to_thread=True,
)
def list_errors(request: AnyRequest, job_id: JobIdPath, form: ErrorsFormat = ReportFormat.NDJSON) -> Stream:
    application = services(request).application
    job = import_of(application, job_id)
    pieces = encoded(application.imports.errors(job.job_id), form)
    return download(pieces, media_type=form.media_type, name=f"{job.job_id}-errors.{form}")


@get(
    "/imports/{job_id:str}/rejected",
    name="get_rejected_records",
    operation_id="get_rejected_records",
    tags=["imports"],
    summary="The rejected records of an import, to be mended",
    description="The records as they stand in the file, in its own format, with their problems in an extra column `_errors`. Mend them and "
    "send the file back: `_errors` is ignored on input.",
    responses={200: _file("The records; empty when none was rejected."), **_ERRORS},
    sync_to_thread=True,
)
def get_rejected(request: AnyRequest, job_id: JobIdPath) -> Stream:
    application = services(request).application
    job = import_of(application, job_id)
    form = job.format or "ndjson"
    return download(application.imports.rejected(job.job_id), media_type=REJECTED_TYPES[form], name=f"{job.job_id}-rejected.{form}")


ROUTES = [list_errors, get_rejected]
