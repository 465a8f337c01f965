"""Resources as a server tells them, each field a JSON Schema, back in the words of a resource."""

from typing import Any

import msgspec

from penstock.resources.describing import (
    ChildDescription,
    FieldDescription,
    FilterDescription,
    ReferenceDescription,
    ResourceDescription,
    RuleDescription,
)
from penstock.resources.model import FieldType

_BY_FORMAT = {"uuid": FieldType.UUID, "date-time": FieldType.DATETIME}
_BY_TYPE = {
    "integer": FieldType.INTEGER,
    "number": FieldType.NUMBER,
    "boolean": FieldType.BOOLEAN,
    "array": FieldType.STRINGS,
}
_SAME = {
    "pattern": "pattern",
    "minLength": "min_length",
    "maxLength": "max_length",
    "default": "default",
    "description": "description",
    "x-max-words": "max_words",
    "x-precision": "precision",
    "x-pattern-hint": "pattern_hint",
    "x-touch": "touch",
}


class ResourceView(msgspec.Struct):
    """One resource of GET /v1/resources."""

    name: str
    fields: dict[str, dict[str, Any]]
    title: str = ""
    primary_key: str = "id"
    natural_key: str | None = None
    caseless: bool = False
    required: list[str] = []
    references: list[ReferenceDescription] = []
    rules: list[RuleDescription] = []
    filters: list[FilterDescription] = []


class ResourceList(msgspec.Struct):
    items: list[ResourceView]


def resource_of(view: ResourceView) -> ResourceDescription:
    plain = {name: schema for name, schema in view.fields.items() if not _is_child(schema)}
    return ResourceDescription(
        name=view.name,
        title=view.title,
        primary_key=view.primary_key,
        natural_key=view.natural_key,
        folds_case=view.caseless,
        fields=_fields(plain, view.required),
        references=view.references,
        children=[_child(name, schema["items"]) for name, schema in view.fields.items() if _is_child(schema)],
        rules=view.rules,
        filters=view.filters,
    )


def _is_child(schema: dict[str, Any]) -> bool:
    items = schema.get("items")
    return isinstance(items, dict) and items.get("type") == "object"


def _child(name: str, schema: dict[str, Any]) -> ChildDescription:
    return ChildDescription(field=name, fields=_fields(schema.get("properties", {}), schema.get("required", [])))


def _fields(schemas: dict[str, dict[str, Any]], required: list[str]) -> list[FieldDescription]:
    return [_field(name, schema, required=name in required) for name, schema in schemas.items()]


def _field(name: str, schema: dict[str, Any], *, required: bool) -> FieldDescription:
    form = schema.get("format")
    kind = _BY_FORMAT.get(str(form)) or _BY_TYPE.get(str(schema.get("type")), FieldType.STRING)
    facts: dict[str, Any] = {ours: schema[theirs] for theirs, ours in _SAME.items() if schema.get(theirs) is not None}
    facts |= {limit: str(schema[limit]) for limit in ("minimum", "maximum") if schema.get(limit) is not None}
    return FieldDescription(
        name=name,
        type=kind.value,
        required=required,
        email=form == "email",
        scale=schema.get("x-scale", 0),
        enum=schema.get("enum", []),
        **facts,
    )
