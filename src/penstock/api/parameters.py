"""What a request may ask: ids, query parameters (strict: what is not known is refused), opaque cursors."""

import base64
import binascii
import difflib
import re
from enum import Enum
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg, PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from penstock.errors import InvalidIdError, InvalidOptionError
from penstock.jobs.model import JobId

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_LONGEST_CURSOR = 200
MOST_PER_PAGE, PER_PAGE = 200, 50
ANY_QUERY = "any_query"  # in a handler's `opt`: it checks its query parameters itself

JobIdPath = Annotated[str, PathParameter(description="The job's id.", schema_extra={"format": "uuid"})]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST_PER_PAGE, description="How many at most.", required=False)]
Cursor = Annotated[
    str | None,
    QueryParameter(description="`next` of the page before; not given: the first page.", max_length=_LONGEST_CURSOR, required=False),
]


def job_id_of(text: str) -> JobId:
    """Raises InvalidIdError for what is no full UUID."""
    return JobId(uuid_of(text, "a job"))


def uuid_of(text: str, what: str) -> str:
    """The UUID in lower case. Raises InvalidIdError."""
    if not _UUID.fullmatch(text):
        raise InvalidIdError(f"The id of {what} is a UUID, such as 0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f.", id=text[:100])
    return text.lower()


def encoded_cursor(cursor: str | None) -> str | None:
    return None if cursor is None else base64.urlsafe_b64encode(cursor.encode()).rstrip(b"=").decode()


def decoded_cursor(text: str | None) -> str | None:
    """Raises InvalidOptionError for what no list gave."""
    if text is None:
        return None
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        raise InvalidOptionError("The cursor is not one that a list gave: take `next` as it was.", cursor=text) from None


async def refuse_unknown_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: a parameter that the route does not know, or that is given twice, is never ignored. Raises InvalidOptionError.

    Nor is what is no UTF-8, whatever the route.
    """
    _check_encoding(connection)
    if handler.opt.get(ANY_QUERY):
        return
    known = sorted(_query_parameters(handler))
    given = [name for name, _ in connection.query_params.multi_items()]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            there = f"there are {', '.join(known)}" if known else "this address has none"
            raise InvalidOptionError(f"There is no parameter {name[:100]!r}; {there}.{hint}", parameter=name[:100], allowed=known)
        if given.count(name) > 1:
            raise InvalidOptionError(f"The parameter {name} is given more than once.", parameter=name)


def _check_encoding(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Litestar would put U+FFFD where the bytes are wrong, and another value would be looked for: `%ba%` is a byte and a percent sign."""
    try:
        unquote_to_bytes(connection.scope["query_string"]).decode()
    except UnicodeDecodeError as error:
        raise InvalidOptionError(
            f"The address has %{error.object[error.start]:02X} where no character of UTF-8 is. A percent sign itself is written %25."
        ) from None


def allowed(request: Request[Any, Any, Any], name: str) -> str | None:
    """What the parameter may be, in words; None where its type alone says it."""
    handler = request.scope.get("route_handler")
    field = handler.parsed_fn_signature.parameters.get(name) if handler is not None else None
    if field is None:
        return None
    if values := _values(field):
        return ", ".join(values)
    kwarg = field.kwarg_definition
    if isinstance(kwarg, ParameterKwarg) and kwarg.ge is not None and kwarg.le is not None:
        return f"a whole number from {kwarg.ge:g} to {kwarg.le:g}"
    if isinstance(kwarg, ParameterKwarg) and kwarg.max_length is not None:
        return f"at most {kwarg.max_length} characters"
    return None


def written(request: Request[Any, Any, Any], name: str) -> str:
    """The parameter as clients write it: Litestar's faults name the handler's argument."""
    handler = request.scope.get("route_handler")
    field = handler.parsed_fn_signature.parameters.get(name) if handler is not None else None
    kwarg = None if field is None else field.kwarg_definition
    return (isinstance(kwarg, ParameterKwarg) and kwarg.name) or name


def _values(field: FieldDefinition) -> list[str]:
    kinds = [field.annotation, *(inner.annotation for inner in field.inner_types)]
    return [str(member.value) for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for member in kind]


def _query_parameters(handler: BaseRouteHandler) -> set[str]:
    fields = handler.parsed_fn_signature.parameters.items()
    return {field.kwarg_definition.name or name for name, field in fields if isinstance(field.kwarg_definition, QueryParameter)}
