"""Errors as RFC 9457 problems: one shape for all, the error tree's codes, and for 5xx nothing of what lies inside."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE, HTTP_500_INTERNAL_SERVER_ERROR

from penstock.api.parameters import allowed, written
from penstock.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    EventLogUnavailableError,
    ExportTimeoutError,
    HandedOverError,
    IdempotencyInProgressError,
    MethodNotAllowedError,
    OverloadedError,
    PayloadTooLargeError,
    PenstockError,
    QueueFullError,
    RouteNotFoundError,
    StorageUnavailableError,
    UsageError,
)
from penstock.logs import get_logger

MEDIA_TYPE = "application/problem+json"
# In the scope's state; ADDRESS is the path as the client wrote it, HEADERS the request's by name, and HEAD_ONLY is there where a GET's body
# is not wanted.
REQUEST_ID, ADDRESS, HEADERS, HEAD_ONLY = "request_id", "address", "headers", "head_only"
# Seconds after which it is worth another try.
_RETRY_AFTER = {
    DatabaseUnavailableError: 5,  # a circuit says it itself
    EventLogUnavailableError: 5,
    StorageUnavailableError: 5,
    HandedOverError: 5,
    OverloadedError: 2,
    IdempotencyInProgressError: 2,
    QueueFullError: 1,
}
_OUTAGES: dict[type[PenstockError], str] = {
    DatabaseUnavailableError: "The database cannot be reached at the moment. Try again in a few seconds.",
    CircuitOpenError: "What this needs was away several times in a row and is left alone for a while. Try again after that.",
    EventLogUnavailableError: "The log of events cannot be reached at the moment. Try again in a few seconds.",
    StorageUnavailableError: "The storage cannot be reached at the moment. Try again in a few seconds.",
    HandedOverError: "The server is stopping. Try again in a few seconds.",
}
_NOTHING_TO_HIDE = (
    OverloadedError,
    QueueFullError,
    ExportTimeoutError,
    UsageError,
)  # of a 5xx: the server says so itself, and nothing of what lies inside
_UNFORESEEN = "Something unforeseen happened, and it was logged. Give the request id to whoever runs the server: {request_id}"


class ProblemError(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, for a machine (`code`, which is stable, and `details`) and for a person (`message`)."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as RFC 9457 has it, with `error` as the machine-readable part."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: ProblemError
    request_id: str


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler: any exception becomes a problem."""
    known, headers = _as_known(request, error)
    state = request.scope["state"]
    request_id = state[REQUEST_ID]
    if known is None or known.http_status >= HTTP_500_INTERNAL_SERVER_ERROR:
        _log(known, error)
    status, problem = _problem(known, state[ADDRESS], request_id)
    headers = {**headers, **_retry_after(known)}
    return Response(problem, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def rendered(error: PenstockError, path: str, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a problem, for what answers before Litestar does."""
    status, body = _problem(error, path, request_id)
    return status, body, _retry_after(error)


def answered(error: Exception, path: str, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """The same of whatever a route raised that is not Litestar's; it is logged as `handle` does."""
    known = error if isinstance(error, PenstockError) else None
    _log(known, error)
    status, body = _problem(known, path, request_id)
    return status, body, _retry_after(known)


def problems(*errors: type[PenstockError]) -> dict[int, ResponseSpec]:
    """How the document tells of the errors that a route can answer with; those that any route can meet come by themselves."""
    by_status: dict[int, list[type[PenstockError]]] = {}
    everywhere: tuple[type[PenstockError], ...] = (DatabaseUnavailableError, OverloadedError, PenstockError)
    for error in (*errors, *everywhere):
        by_status.setdefault(error.http_status, []).append(error)
    return {status: _documented(classes) for status, classes in by_status.items()}


def _documented(classes: list[type[PenstockError]]) -> ResponseSpec:
    codes = [error.code for error in dict.fromkeys(classes)]
    examples = [Example(summary=error.code, value=_example(error)) for error in dict.fromkeys(classes)]
    return ResponseSpec(Problem, generate_examples=False, description=f"`{'`, `'.join(codes)}`", media_type=MEDIA_TYPE, examples=examples)


def _example(error: type[PenstockError]) -> dict[str, Any]:
    _, body = _problem(error("What a person can do about it."), "/v1/...", "0f6a2c5e8b9d4c1fa3e7d2b4c6a8e0f1")
    example: dict[str, Any] = msgspec.json.decode(body)
    return example


def _problem(error: PenstockError | None, path: str, request_id: str) -> tuple[int, bytes]:
    status = HTTP_500_INTERNAL_SERVER_ERROR if error is None else error.http_status
    code = PenstockError.code if error is None else error.code
    message, details = _told(error, request_id)
    problem = Problem(
        type=f"urn:penstock:error:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=message,
        instance=_text(path),
        error=ProblemError(code=code, message=message, details=details),
        request_id=request_id,
    )
    return status, msgspec.json.encode(problem, enc_hook=str)


def _told(error: PenstockError | None, request_id: str) -> tuple[str, dict[str, Any]]:
    """What a client may know. A 5xx shows nothing of hosts, folders or statements."""
    if error is None:
        return _UNFORESEEN.format(request_id=request_id), {}
    if error.http_status >= HTTP_500_INTERNAL_SERVER_ERROR and not isinstance(error, _NOTHING_TO_HIDE):
        return _OUTAGES.get(type(error), _UNFORESEEN.format(request_id=request_id)), {}
    return _text(error.message), {name: _text(fact) if isinstance(fact, str) else fact for name, fact in error.details.items()}


def _text(text: str) -> str:
    """Halves of surrogate pairs, which no UTF-8 can hold, as question marks."""
    return text.encode("utf-8", "replace").decode()


def _retry_after(error: PenstockError | None) -> dict[str, str]:
    if isinstance(error, CircuitOpenError) and (left := error.details.get("retry_after_seconds")) is not None:
        return {"Retry-After": str(left)}
    seconds = next((seconds for kind, seconds in _RETRY_AFTER.items() if isinstance(error, kind)), None)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _log(known: PenstockError | None, error: Exception) -> None:
    log = get_logger(__name__)
    if isinstance(known, (UsageError, QueueFullError, CircuitOpenError)):
        return  # the access line says it, and there may be thousands in a second
    if isinstance(known, OverloadedError):
        log.warning("overloaded", reason=known.message)
    elif type(known) in _OUTAGES:
        log.error("request failed", code=PenstockError.code if known is None else known.code, reason=str(error))
    else:
        log.error("request failed", code=PenstockError.code if known is None else known.code, exc_info=error)


def _as_known(request: Request[Any, Any, Any], error: Exception) -> tuple[PenstockError | None, dict[str, str]]:
    """The error as one of ours, and headers of its own; None for what nobody foresaw."""
    if isinstance(error, PenstockError):
        return error, {}
    if isinstance(error, NotFoundException):
        return RouteNotFoundError("There is no such address. /docs lists those there are."), {}
    if isinstance(error, MethodNotAllowedException):
        methods = allowed_methods(error)
        return MethodNotAllowedError(f"This address takes {methods}, not {request.method}.", allowed=methods.split(", ")), {
            "Allow": methods
        }
    if isinstance(error, ValidationException):
        return _invalid(request, error), {}
    if isinstance(error, HTTPException) and error.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
        return _client_error(error), {}
    return None, {}


def allowed_methods(error: MethodNotAllowedException) -> str:
    known = ((error.headers or {}).get("allow") or "").split(", ")
    return ", ".join(sorted({*known, "HEAD"} if "GET" in known else set(known)))


def _client_error(error: HTTPException) -> PenstockError:
    if error.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
        return PayloadTooLargeError("The body is too large: a JSON request may have 1 MiB.")
    return UsageError(f"The request cannot be read: {error.detail}")


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> UsageError:
    """Names each field that is wrong and what it may be."""
    faults = []
    for extra in error.extra if isinstance(error.extra, list) else []:
        field, said = str(extra.get("key", "body")), str(extra.get("message", "is wrong"))
        faults.append({"field": written(request, field), "problem": said, "allowed": allowed(request, field)})
    told = "; ".join(
        f"`{fault['field']}`: {(fault['allowed'] and 'allowed is ' + str(fault['allowed'])) or fault['problem']}" for fault in faults
    )
    return UsageError(f"The request is not valid. {told or error.detail}", faults=faults)
