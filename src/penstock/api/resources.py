"""GET /v1/resources: what can be imported, as the resources declare it."""

from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import PathParameter
from msgspec import Meta

from penstock.api.problems import problems
from penstock.api.services import AnyRequest, services
from penstock.errors import InvalidOptionError, UnknownResourceError
from penstock.resources.describing import FilterDescription, filters_of
from penstock.resources.model import Field, FieldType, Resource

NamePath = Annotated[str, PathParameter(description="The name of a resource.")]
_SCHEMAS: dict[FieldType, dict[str, Any]] = {
    FieldType.STRING: {"type": "string"},
    FieldType.UUID: {"type": "string", "format": "uuid"},
    FieldType.INTEGER: {"type": "integer"},
    FieldType.NUMBER: {"type": "number"},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.DATETIME: {"type": "string", "format": "date-time"},
    FieldType.STRINGS: {"type": "array", "items": {"type": "string"}},
}


class ReferenceView(msgspec.Struct, frozen=True, kw_only=True):
    """A field that holds the primary key of a record of another resource."""

    field: str
    resource: str
    alias: Annotated[str | None, Meta(description="The field that may hold the other's natural key instead, such as author_email.")]


class ResourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as it is declared. `fields` holds a JSON Schema for each."""

    name: str
    title: str
    primary_key: str
    natural_key: Annotated[str | None, Meta(description="Records without the primary key are matched by it; null: there is none.")]
    caseless: Annotated[bool, Meta(description="Whether the natural key is compared without case.")]
    required: Annotated[list[str], Meta(description="Fields that a new record must have.")]
    fields: dict[str, dict[str, Any]]
    references: list[ReferenceView]
    rules: Annotated[list[dict[str, str]], Meta(description="Rules over several fields: code, field and what it says.")]
    filters: Annotated[
        list[FilterDescription],
        Meta(description="Filters of exports by a word of their own; `fields` are those that a value is compared with."),
    ]


class ResourceList(msgspec.Struct, frozen=True, kw_only=True):
    """Parents first: each after everything it refers to."""

    items: list[ResourceView]
    next: None = None


def resource_view(resource: Resource) -> ResourceView:
    children = {child.field: {"type": "array", "items": record_schema(child.fields)} for child in resource.children}
    return ResourceView(
        name=resource.name,
        title=resource.title,
        primary_key=resource.primary_key,
        natural_key=resource.natural_key,
        caseless=resource.folds_case,
        required=[field.name for field in resource.fields if field.required],
        fields={field.name: field_schema(field) for field in resource.fields} | children,
        references=[ReferenceView(field=each.field, resource=each.resource, alias=each.alias) for each in resource.references],
        rules=[{"code": rule.code, "field": rule.field, "message": rule.message} for rule in resource.rules],
        filters=filters_of(resource),
    )


def record_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    """A JSON Schema of an object with these fields."""
    return {
        "type": "object",
        "properties": {field.name: field_schema(field) for field in fields},
        "required": [field.name for field in fields if field.required],
    }


def field_schema(field: Field) -> dict[str, Any]:
    """A JSON Schema of the field; what JSON Schema lacks (words, digits) begins with `x-`."""
    facts = {
        "description": field.description,
        "format": "email" if field.email else None,
        "pattern": field.pattern,
        "enum": list(field.enum),
        "minLength": field.min_length,
        "maxLength": field.max_length,
        "minimum": _number(field.minimum),
        "maximum": _number(field.maximum),
        "default": field.default,
        "x-touch": field.touch or None,
        "x-pattern-hint": field.pattern_hint,
        "x-max-words": field.max_words,
        "x-precision": field.precision,
        "x-scale": field.scale if field.type is FieldType.NUMBER else None,
    }
    return _SCHEMAS[field.type] | {name: fact for name, fact in facts.items() if fact not in (None, "", [])}


def stored_schema(resource: Resource) -> dict[str, Any]:
    """A JSON Schema of a record as it is answered: every field is there, and null where there is no value."""
    children = {child.field: {"type": "array", "items": _stored(child.fields)} for child in resource.children}
    schema = _stored(resource.fields)
    return schema | {"properties": schema["properties"] | children, "required": [*schema["required"], *children]}


def _stored(fields: tuple[Field, ...]) -> dict[str, Any]:
    properties = {}
    for field in fields:
        schema = _SCHEMAS[field.type]
        properties[field.name] = schema if field.required else schema | {"type": [schema["type"], "null"]}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _number(value: Any) -> float | int | None:
    if value is None:
        return None
    return int(value) if value == int(value) else float(value)


@get(
    "/resources",
    operation_id="list_resources",
    tags=["resources"],
    summary="What can be imported",
    responses=problems(InvalidOptionError),
    sync_to_thread=False,
)
def list_resources(request: AnyRequest) -> ResourceList:
    return ResourceList(items=[resource_view(each) for each in services(request).application.registry])


@get(
    "/resources/{name:str}",
    operation_id="get_resource",
    tags=["resources"],
    summary="A resource: fields, rules, keys, references, filters",
    responses=problems(InvalidOptionError, UnknownResourceError),
    sync_to_thread=False,
)
def get_resource(request: AnyRequest, name: NamePath) -> ResourceView:
    return resource_view(services(request).application.registry.get(name))


ROUTES = [list_resources, get_resource]
