"""The OpenAPI document, and the page that shows it: a vendored Swagger UI, with nothing from elsewhere."""

from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Litestar, Response, get
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.config.app import AppConfig
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Server, Tag
from litestar.params import FromPath

from penstock.api.examples import ERROR_RECORD, EXAMPLES
from penstock.api.exports_document import TYPES as EXPORT_TYPES
from penstock.api.problems import problems
from penstock.api.reports import REJECTED_TYPES
from penstock.api.resources import stored_schema
from penstock.api.services import AnyRequest
from penstock.errors import InvalidOptionError, RouteNotFoundError
from penstock.formats.model import Format
from penstock.resources.registry import Registry

_DESCRIPTION = """Moves records in bulk into PostgreSQL, exactly: every good one lands once, every bad one comes back with its reason.

Every `/v1/...` address answers the same under `/api/v1/...`. Every answer has an `X-Request-ID`: the one that the request brought (1 to 128
visible ASCII characters), or a new one. Errors are RFC 9457 problems with a stable `error.code`. Parameters that an address does not know
are refused. A `503` says in `Retry-After` when to try again."""
_TAGS = {
    "imports": "Files into resources.",
    "uploads": "Files sent ahead of their import.",
    "exports": "Records out of resources.",
    "jobs": "Work of every kind, and how it goes.",
    "product events": "Prices and stocks as they change.",
    "dead letters": "Events that could not be applied.",
    "resources": "What can be imported and exported.",
    "records": "Single records.",
    "operations": "For those who run the server.",
}
_EARLIER = "/v1/imports/{resource}"
_VIEWER = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "start.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def document(app: Litestar, registry: Registry, public_url: str | None) -> bytes:
    """The document of the application's routes, as JSON."""
    plugin = app.plugins.get(OpenAPIPlugin)
    config = OpenAPIConfig(
        title="Penstock",
        version=version("penstock"),
        description=_DESCRIPTION,
        servers=[Server(url=public_url or "/")],
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
    )
    # The plugin would put the document at an address of its own beside pages that load their scripts from elsewhere: the routes that it
    # adds to this configuration are dropped.
    plugin.on_app_init(AppConfig(openapi_config=config))
    schema = plugin.provide_openapi_schema()
    _describe_records(schema, registry)
    # Two templates of one shape may not stand in a document; this one is for clients that know the second prefix anyway.
    schema["paths"]["/api" + _EARLIER] = schema["paths"].pop(_EARLIER)
    _describe_reports(schema)
    _describe_exports(schema, registry)
    _describe_request_ids(schema)
    for name, example in EXAMPLES.items():
        schema["components"]["schemas"][name]["examples"] = [example]
    return msgspec.json.encode(schema)


def _describe_records(schema: dict[str, Any], registry: Registry) -> None:
    """What single records look like, which the handlers' types do not say."""
    schemas = schema["components"]["schemas"]
    for resource in registry:
        name = f"{resource.name}_record"
        schemas[name] = stored_schema(resource)
        _answers(schema, f"/v1/{resource.name}/{{record_id}}", {"$ref": f"#/components/schemas/{name}"})
    user = {"type": "object", "properties": {"user": {"$ref": "#/components/schemas/users_record"}}, "required": ["user"]}
    _answers(schema, "/{user_id}", user)


def _describe_reports(schema: dict[str, Any]) -> None:
    """Both come in several formats, which a handler's one media type cannot say."""
    record = {"type": "object", "examples": [ERROR_RECORD]}
    text = {"schema": {"type": "string"}}
    errors = {"application/x-ndjson": text, "text/csv": text, "application/json": {"schema": {"type": "array", "items": record}}}
    _content(schema, "/v1/imports/{job_id}/errors")["content"] = errors
    rejected = {kind: {"schema": {"description": "The file's own format."}} for kind in REJECTED_TYPES.values()}
    _content(schema, "/v1/imports/{job_id}/rejected")["content"] = rejected


def _describe_exports(schema: dict[str, Any], registry: Registry) -> None:
    """The names of the resources, and the media types of a stream."""
    names = {"type": "string", "enum": list(registry.names)}
    for path in ("/v1/exports", "/v1/exports/{resource}/stream"):
        operation = schema["paths"][path]["get"]
        next(each for each in operation["parameters"] if each["name"] == "resource")["schema"].update(names)
        records: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in EXPORT_TYPES.values()}
        records[EXPORT_TYPES[Format.JSON]] = {"schema": {"type": "array", "items": {"type": "object"}}}
        operation["responses"]["200"]["content"] = records
    body = schema["paths"]["/v1/exports"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body["properties"]["resource"].update(names)


def _content(schema: dict[str, Any], path: str) -> dict[str, Any]:
    response: dict[str, Any] = schema["paths"][path]["get"]["responses"]["200"]
    return response


def _answers(schema: dict[str, Any], path: str, record: dict[str, Any]) -> None:
    _content(schema, path)["content"] = {"application/json": {"schema": record}}


def _describe_request_ids(schema: dict[str, Any]) -> None:
    header = {"description": "The id of the request, also in the server's log.", "schema": {"type": "string"}}
    schema["components"].setdefault("headers", {})["X-Request-ID"] = header
    for operations in schema["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values() if isinstance(operation, dict) else ():
                response.setdefault("headers", {})["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def get_document(request: AnyRequest) -> Response[bytes]:
    return Response(request.app.state["document"], media_type="application/json")


@get("/docs", include_in_schema=False, sync_to_thread=False)
def get_viewer() -> Response[bytes]:
    return Response(_viewer_file("index.html"), media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@get("/docs/{name:str}", include_in_schema=False, sync_to_thread=False, responses=problems(InvalidOptionError, RouteNotFoundError))
def get_viewer_part(name: FromPath[str]) -> Response[bytes]:
    if name not in _VIEWER:
        raise RouteNotFoundError("There is no such address.")
    return Response(_viewer_file(name), media_type=_VIEWER[name], headers={"Cache-Control": "public, max-age=3600"})


@cache
def _viewer_file(name: str) -> bytes:
    return (files("penstock.api") / "viewer" / name).read_bytes()


ROUTES = [get_document, get_viewer, get_viewer_part]
