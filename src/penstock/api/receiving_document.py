"""What the requests that bring files look like, for the OpenAPI document: handlers of streamed bodies do not say it themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar.openapi.spec import OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from penstock.formats.model import Format
from penstock.intake.media import JSON, MULTIPART, RAW_TYPES
from penstock.jobs.model import Empty, Mode, OnError

_TEXT, _FLAG = OpenAPIType.STRING, OpenAPIType.BOOLEAN


def _choice(kind: type[Format | Mode | OnError | Empty], about: str) -> Schema:
    return Schema(type=_TEXT, enum=[member.value for member in kind], description=about)


_RESOURCE = {"resource": Schema(type=_TEXT, description="What the records are, such as users.", examples=["users"])}
_SIMPLE = {
    "format": _choice(Format, "How the file is written. Not given: by its name, else by its first bytes."),
    "mode": _choice(Mode, "Insert and update (upsert), insert only, or update only."),
    "dry_run": Schema(type=_FLAG, description="Check everything, write nothing."),
    "on_error": _choice(OnError, "At a bad record: report it and continue, or abort."),
    "atomic": Schema(type=_FLAG, description="All in one transaction: with any bad record, nothing lands."),
    "max_errors": Schema(type=OpenAPIType.INTEGER, minimum=0, description="Fail past this many bad records."),
    "empty": _choice(Empty, "What an absent or empty value does to the stored one."),
    "timezone": Schema(type=_TEXT, description="Of timestamps without a zone.", examples=["Europe/Lisbon"]),
    "datetime_format": Schema(type=_TEXT, description="If not ISO 8601.", examples=["%d.%m.%Y %H:%M"]),
    "delimiter": Schema(type=_TEXT, description="CSV: one character, or tab, comma, semicolon, pipe.", examples=[";"]),
    "encoding": Schema(type=_TEXT, description="If it is not UTF-8, or UTF-16 with a byte order mark.", examples=["latin-1"]),
}
_AS_TEXT = {
    "null_values": Schema(type=_TEXT, description="CSV cells that mean no value: a JSON list, or texts with commas between them."),
    "mapping": Schema(type=_TEXT, description="A JSON object: column in the file -> field.", examples=['{"Mail": "email"}']),
}
_AS_JSON = {
    "null_values": Schema(type=OpenAPIType.ARRAY, items=Schema(type=_TEXT), description="CSV cells that mean no value."),
    "mapping": Schema(
        type=OpenAPIType.OBJECT,
        additional_properties=Schema(type=_TEXT),
        description="Column in the file -> field.",
        examples=[{"Mail": "email"}],
    ),
}
_FILE = {"file": Schema(type=_TEXT, format=OpenAPIFormat.BINARY, description="The file. Its name tells the format.")}
_SOURCES = {
    "upload_id": Schema(type=_TEXT, format=OpenAPIFormat.UUID, description="A file that was sent ahead: see uploads."),
    "source_path": Schema(type=_TEXT, description="A file below the server's IMPORT_BASE_DIR.", examples=["daily/users.csv"]),
    "file_url": Schema(type=_TEXT, format=OpenAPIFormat.URI, description="The server fetches it; only from the public internet."),
}
KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    schema=Schema(type=_TEXT, min_length=1, max_length=255),
    description="1 to 255 visible ASCII characters, bare or quoted, kept for 72 h. The same request with the same key gets the first job.",
)


def _object(properties: Mapping[str, Schema], required: list[str]) -> OpenAPIMediaType:
    schema = Schema(type=OpenAPIType.OBJECT, properties={**properties}, required=required, additional_properties=False)
    return OpenAPIMediaType(schema=schema)


def _form(*, required: list[str]) -> OpenAPIMediaType:
    return _object({**_RESOURCE, **_FILE, **_SIMPLE, **_AS_TEXT}, required)


def _json(example: dict[str, Any], *, required: list[str]) -> OpenAPIMediaType:
    media = _object({**_RESOURCE, **_SOURCES, **_SIMPLE, **_AS_JSON}, required)
    media.example = example
    return media


def _raw() -> dict[str, OpenAPIMediaType]:
    binary = Schema(type=_TEXT, format=OpenAPIFormat.BINARY)
    return {kind: OpenAPIMediaType(schema=binary) for kind in RAW_TYPES}


def _query(*, required: bool) -> list[Parameter]:
    """Options of a body that is the file itself; with a form or JSON they stand in the body, and none may stand here."""
    said = "For a body that is the file itself. "
    options = {**_RESOURCE, **_SIMPLE, **_AS_TEXT}
    return [
        Parameter(name=name, param_in="query", schema=schema, required=False, description=said + (schema.description or ""))
        for name, schema in options.items()
        if required or name != "resource"
    ]


@dataclass
class ImportOperation(Operation):
    def __post_init__(self) -> None:
        content = {
            MULTIPART: _form(required=["resource", "file"]),
            JSON: _json({"resource": "users", "file_url": "https://example.com/users.csv"}, required=["resource"]),
            **_raw(),
        }
        self.request_body = RequestBody(content=content, required=True)
        self.parameters = [*(self.parameters or []), KEY, *_query(required=True)]


@dataclass
class PreviewOperation(Operation):
    def __post_init__(self) -> None:
        content = {
            MULTIPART: _form(required=["file"]),
            JSON: _json({"resource": "users", "upload_id": "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"}, required=[]),
            **_raw(),
        }
        self.request_body = RequestBody(content=content, required=True)
        self.parameters = [*(self.parameters or []), *_query(required=True)]


@dataclass
class SourceImportOperation(Operation):
    def __post_init__(self) -> None:
        media = _object({"source_path": _SOURCES["source_path"], **_SIMPLE, **_AS_JSON}, ["source_path"])
        media.example = {"source_path": "users_data.json"}
        self.request_body = RequestBody(content={JSON: media}, required=True)
        self.parameters = [*(self.parameters or []), KEY]


@dataclass
class UploadOperation(Operation):
    def __post_init__(self) -> None:
        filename = Schema(type=_TEXT, min_length=1, description="The file's name; its ending tells the format.")
        media = _object({"filename": filename, **_RESOURCE}, ["filename"])
        media.example = {"filename": "users.csv.gz", "resource": "users"}
        self.request_body = RequestBody(content={JSON: media}, required=True)


@dataclass
class PutOperation(Operation):
    def __post_init__(self) -> None:
        media = OpenAPIMediaType(schema=Schema(type=_TEXT, format=OpenAPIFormat.BINARY))
        self.request_body = RequestBody(content={"*/*": media}, required=True)
