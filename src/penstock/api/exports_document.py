"""What the requests and answers of exports look like, for the OpenAPI document: handlers do not say it themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from penstock.api.receiving_document import KEY
from penstock.formats.model import Compression, Format
from penstock.intake.media import JSON

_TEXT = OpenAPIType.STRING
TYPES = {
    Format.CSV: "text/csv",
    Format.NDJSON: "application/x-ndjson",
    Format.JSON: "application/json",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_FORMAT = Schema(type=_TEXT, enum=[form.value for form in Format], default=Format.NDJSON.value, description="How the records are written.")
_COMPRESSION = Schema(
    type=_TEXT,
    enum=[each.value for each in Compression],
    default=Compression.NONE.value,
    description="Of the file; a Parquet file is compressed inside and takes none.",
)
_SPREADSHEET = Schema(
    type=OpenAPIType.BOOLEAN,
    default=False,
    description="CSV only: safe to open in a spreadsheet, with a byte order mark; it imports again the same.",
)
_FIELDS = Schema(
    type=OpenAPIType.ARRAY,
    items=Schema(type=_TEXT),
    min_items=1,
    unique_items=True,
    description="In the order of the columns. Not given: all, the children too.",
    examples=[["id", "email"]],
)
_RESOURCE = Schema(type=_TEXT, description="What the records are: a name of GET /v1/resources, such as users.", examples=["users"])
_FILTERS = Schema(
    type=OpenAPIType.OBJECT,
    additional_properties=Schema(type=_TEXT),
    description="By field or declared filter, with an operator in brackets if it is not `eq`.",
    examples=[{"role": "admin", "created_at[gte]": "2026-01-01T00:00:00Z"}],
)
_FILTERS_IN_BODY = Schema(
    type=OpenAPIType.OBJECT,
    additional_properties=Schema(
        any_of=[
            Schema(type=[_TEXT, OpenAPIType.NUMBER, OpenAPIType.BOOLEAN, OpenAPIType.ARRAY]),
            Schema(type=OpenAPIType.OBJECT, description="Operators and their values."),
        ]
    ),
    description="A value, or operators with their values; all must hold.",
    examples=[{"role": "admin", "created_at": {"gte": "2026-01-01T00:00:00Z"}}],
)


def streamed() -> ResponseSpec:
    return ResponseSpec(bytes, generate_examples=False, description="The records, in the format that was asked for.", media_type="*/*")


def _parameter(name: str, schema: Schema, *, required: bool = False, **how: Any) -> Parameter:
    return Parameter(name=name, param_in="query", schema=schema, required=required, description=schema.description, **how)


def _stream_parameters() -> list[Parameter]:
    accepted = Schema(type=_TEXT, description="`gzip` and `zstd` are honoured, with their weights. Parquet is compressed inside already.")
    return [
        _parameter("format", _FORMAT),
        _parameter("fields", _FIELDS, style="form", explode=False),
        _parameter("spreadsheet", _SPREADSHEET),
        # An object whose members are parameters of the query, each under its own name.
        _parameter("filters", _FILTERS, style="form", explode=True),
        Parameter(name="Accept-Encoding", param_in="header", schema=accepted, required=False, description=accepted.description),
    ]


@dataclass
class StreamOperation(Operation):
    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), _parameter("resource", _RESOURCE, required=True), *_stream_parameters()]


@dataclass
class StreamOfResourceOperation(Operation):
    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), *_stream_parameters()]


@dataclass
class ExportOperation(Operation):
    def __post_init__(self) -> None:
        properties: Mapping[str, Schema] = {
            "resource": _RESOURCE,
            "format": _FORMAT,
            "fields": _FIELDS,
            "filters": _FILTERS_IN_BODY,
            "compression": _COMPRESSION,
            "spreadsheet": _SPREADSHEET,
        }
        schema = Schema(type=OpenAPIType.OBJECT, properties={**properties}, required=["resource"], additional_properties=False)
        media = OpenAPIMediaType(schema=schema)
        media.example = {
            "resource": "users",
            "format": "csv",
            "fields": ["id", "email"],
            "filters": {"role": "admin"},
            "compression": "gzip",
        }
        self.request_body = RequestBody(content={JSON: media}, required=True)
        self.parameters = [*(self.parameters or []), KEY]
