"""GET /v1/exports?resource=... and GET /v1/exports/{resource}/stream: records as they stand, streamed from one snapshot."""

import asyncio
from typing import Annotated

from litestar import get
from litestar.params import PathParameter
from litestar.types import ASGIApp

from penstock.api.coding import coding_of
from penstock.api.exports_document import StreamOfResourceOperation, StreamOperation, streamed
from penstock.api.parameters import ANY_QUERY
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, services
from penstock.api.streamed import StreamedExport
from penstock.errors import (
    ExportTimeoutError,
    HandedOverError,
    HttpVersionError,
    InvalidFilterError,
    InvalidOptionError,
    UnexportableValueError,
    UnknownResourceError,
)
from penstock.exports.model import ExportWishes
from penstock.exports.producing import Export
from penstock.exports.wishes import wishes_of_query
from penstock.formats.model import Compression, Format

_ERRORS = problems(
    InvalidOptionError, InvalidFilterError, UnknownResourceError, UnexportableValueError, ExportTimeoutError, HttpVersionError
)
_OLD = ("1", "1.0")  # Granian says the first of HTTP/1.0
_DESCRIPTION = (
    "Every record that the filters let through, in the order of the primary key, from one snapshot of the database. Every parameter that "
    "is not named here is a filter: `role=admin`, `created_at[gte]=2026-01-01T00:00:00Z`, with the operators `eq`, `ne`, `gt`, `gte`, "
    "`lt`, `lte`, `in`, `like`, `is_null`, or a filter that the resource declares, such as `author`. All must hold. An answer that breaks "
    "off ends without its last chunk, so that no client takes it for a whole one."
)


@get(
    "/exports",
    operation_id="stream_export",
    tags=["exports"],
    summary="Export records at once",
    description=_DESCRIPTION,
    responses={200: streamed(), **_ERRORS},
    opt={ANY_QUERY: True},
    operation_class=StreamOperation,
)
async def stream_export(request: AnyRequest) -> ASGIApp:
    pairs = list(request.query_params.multi_items())
    names = services(request).application.registry.names
    if not any(name == "resource" for name, _ in pairs):
        raise InvalidOptionError(
            f"resource: say which records to export, /v1/exports?resource={names[0]} say; there are {', '.join(names)}. Queued exports are "
            "listed at /v1/jobs?type=EXPORT.",
            option="resource",
            allowed=list(names),
        )
    return await _answer(request, wishes_of_query(services(request).application.registry, pairs))


@get(
    "/exports/{resource:str}/stream",
    operation_id="stream_export_of_resource",
    tags=["exports"],
    summary="Export records of a resource at once",
    description="The same as `/v1/exports?resource=...`. " + _DESCRIPTION,
    responses={200: streamed(), **_ERRORS},
    opt={ANY_QUERY: True},
    operation_class=StreamOfResourceOperation,
)
async def stream_export_of_resource(
    request: AnyRequest, resource: Annotated[str, PathParameter(description="What the records are.")]
) -> ASGIApp:
    registry = services(request).application.registry
    return await _answer(request, wishes_of_query(registry, list(request.query_params.multi_items()), resource=resource))


async def _answer(request: AnyRequest, wishes: ExportWishes) -> ASGIApp:
    here = services(request)
    if request.scope["http_version"] in _OLD:
        raise HttpVersionError(
            "An export needs HTTP/1.1: in HTTP/1.0 a file that broke off looks like a whole one. Behind nginx set proxy_http_version 1.1, "
            "or queue the export (POST /v1/exports) and download its file."
        )
    if here.stopping.is_set():
        raise HandedOverError("The server stops.")
    # A Parquet file is compressed inside.
    coding = Compression.NONE if wishes.format is Format.PARQUET else coding_of(",".join(request.headers.getall("accept-encoding", [])))

    def export() -> Export:
        return here.application.exports.export(wishes, coding=coding)

    return StreamedExport(here, await asyncio.to_thread(export), wishes, coding)


ROUTES = [stream_export, stream_export_of_resource]
