"""A resource in words that leave the process: what `penstock resources` shows. Unset facts are left out."""

import msgspec

from penstock.resources.model import Child, Field, Resource


class FieldDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`type` is a FieldType; limits of numbers are decimal text."""

    name: str
    type: str
    required: bool
    email: bool
    scale: int  # digits after the point
    pattern: str | None = None
    pattern_hint: str | None = None
    enum: list[str] = []
    min_length: int | None = None
    max_length: int | None = None
    max_words: int | None = None
    minimum: str | None = None
    maximum: str | None = None
    precision: int | None = None
    default: str | None = None
    touch: bool = False  # set to now in every row that an import changes
    description: str = ""


class ReferenceDescription(msgspec.Struct, frozen=True, kw_only=True):
    """`alias` is the field that may hold the other's natural key instead."""

    field: str
    resource: str
    alias: str | None


class ChildDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records inside a record: `field` is the list in the parent."""

    field: str
    table: str | None = None
    fields: list[FieldDescription]


class RuleDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: str
    field: str
    expression: str | None = None
    message: str


class FilterDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`fields` are those that a value is compared with: `tags`, or `author_id.email` for a field of what author_id refers to."""

    name: str
    fields: list[str]
    description: str = ""


class ResourceDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`table` is not known of another server's resource."""

    name: str
    title: str
    table: str | None = None
    primary_key: str
    natural_key: str | None
    folds_case: bool
    fields: list[FieldDescription]
    references: list[ReferenceDescription]
    children: list[ChildDescription]
    rules: list[RuleDescription]
    filters: list[FilterDescription] = []


def described(resource: Resource) -> ResourceDescription:
    return ResourceDescription(
        name=resource.name,
        title=resource.title,
        table=resource.table,
        primary_key=resource.primary_key,
        natural_key=resource.natural_key,
        folds_case=resource.folds_case,
        fields=[_field(field) for field in resource.fields],
        references=[ReferenceDescription(field=r.field, resource=r.resource, alias=r.alias) for r in resource.references],
        children=[_child(child) for child in resource.children],
        rules=[RuleDescription(code=r.code, field=r.field, expression=r.expression, message=r.message) for r in resource.rules],
        filters=filters_of(resource),
    )


def filters_of(resource: Resource) -> list[FilterDescription]:
    return [
        FilterDescription(name=each.name, fields=[target.path for target in each.targets], description=each.description)
        for each in resource.filters
    ]


def _child(child: Child) -> ChildDescription:
    return ChildDescription(field=child.field, table=child.table, fields=[_field(field) for field in child.fields])


def _field(field: Field) -> FieldDescription:
    same = {name: getattr(field, name) for name in FieldDescription.__struct_fields__ if name not in ("type", "enum", "minimum", "maximum")}
    return FieldDescription(
        **same,
        type=field.type.value,
        enum=list(field.enum),
        minimum=None if field.minimum is None else str(field.minimum),
        maximum=None if field.maximum is None else str(field.maximum),
    )
