"""GET /v1/{resource}/{id} for every resource of the registry, and the address that users had in an earlier system."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter

from penstock.api.parameters import uuid_of
from penstock.api.problems import problems
from penstock.api.services import AnyRequest, services
from penstock.errors import InvalidIdError, InvalidOptionError, InvalidResourceError, RecordNotFoundError
from penstock.resources.model import Resource
from penstock.resources.registry import Registry

# Names under /v1 that are not for records.
RESERVED = frozenset({"imports", "exports", "jobs", "resources", "uploads", "storage", "events", "dead-letters", "keys"})
_ERRORS = problems(InvalidOptionError, InvalidIdError, RecordNotFoundError)
_USERS = "users"
Uuid = Annotated[str, PathParameter(description="The record's id.", schema_extra={"format": "uuid"})]
Text = Annotated[Path, PathParameter(description="The record's id, percent-encoded.", schema_extra={"type": "string", "format": "string"})]


def record_routes(registry: Registry) -> list[HTTPRouteHandler]:
    """Below /v1. Raises InvalidResourceError for a resource whose name the API needs itself."""
    if taken := sorted(RESERVED & set(registry.names)):
        raise InvalidResourceError(f"The API uses these names itself, so no resource may have them: {', '.join(taken)}.", names=taken)
    return [_by_uuid(resource) if resource.generates_key else _by_text(resource) for resource in registry]


def _by_uuid(resource: Resource) -> HTTPRouteHandler:
    @get(f"/{resource.name}/{{record_id:str}}", sync_to_thread=True, **_described(resource))
    def get_record(request: AnyRequest, record_id: Uuid) -> Response[bytes]:
        return _answer(services(request).application.records.get(resource.name, record_id))

    return get_record


def _by_text(resource: Resource) -> HTTPRouteHandler:
    prefix = f"/v1/{resource.name}/".encode()

    @get(f"/{resource.name}/{{record_id:path}}", sync_to_thread=True, **_described(resource))
    def get_record(request: AnyRequest, record_id: Text) -> Response[bytes]:
        # The router has decoded and tidied the path; a key may have slashes anywhere, so it is taken from what the client sent.
        raw = request.scope["raw_path"].partition(prefix)[2] or str(record_id).removeprefix("/").encode()
        return _answer(services(request).application.records.get(resource.name, _decoded(raw)))

    return get_record


def _described(resource: Resource) -> dict[str, Any]:
    return {
        "name": f"get_{resource.name}_record",
        "operation_id": f"get_{resource.name}_record",
        "tags": ["records"],
        "summary": f"A record of {resource.name}",
        "responses": _ERRORS,
    }


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidIdError("The id is not valid UTF-8.") from None


def _answer(record: bytes) -> Response[bytes]:
    return Response(record, media_type="application/json")


@get(
    "/{user_id:str}",
    operation_id="get_user",
    tags=["records"],
    summary="A user, at its earlier address",
    description='`{"user": {...}}`, as an earlier system answered. New clients ask `/v1/users/{record_id}`.',
    responses=_ERRORS,
    sync_to_thread=True,
)
def get_user(request: AnyRequest, user_id: Uuid) -> Response[bytes]:
    record = services(request).application.records.get(_USERS, uuid_of(user_id, "a user"))
    return _answer(b'{"user":' + record + b"}")
