"""A descriptor becomes a `Resource`: its words are given their meaning, and what contradicts itself is named."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import polars as pl

from penstock.resources.checks.records import typed_defaults
from penstock.resources.descriptors import ConstraintsSpec, DescriptorSpec, Faults, FieldSpec, FilterSpec, RuleSpec, SchemaSpec
from penstock.resources.filtering import check_filters
from penstock.resources.model import NOW, Child, Field, FieldType, Resource, ResourceName, Rule
from penstock.resources.numbers import exact_decimal
from penstock.resources.types import RESERVED_NAMES, polars_type

MAX_KEY_LENGTH = 600  # characters; an entry of PostgreSQL's index holds some 2,700 bytes, a character takes up to 4
MAX_PRECISION = 38  # what 128 bits hold
MAX_TABLE_LENGTH = 40  # characters; staging tables and indexes are named after the table, and PostgreSQL cuts names at 63 bytes
_CHILD_COLUMNS = frozenset({"id", "position"})  # what a child's table has beside its fields and its parent's key
_SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})  # PostgreSQL keeps these names for itself
_TYPES = {
    ("string", "default"): FieldType.STRING,
    ("string", "email"): FieldType.STRING,
    ("string", "uuid"): FieldType.UUID,
    ("integer", "default"): FieldType.INTEGER,
    ("number", "default"): FieldType.NUMBER,
    ("boolean", "default"): FieldType.BOOLEAN,
    ("datetime", "default"): FieldType.DATETIME,
    ("list", "default"): FieldType.STRINGS,
    ("array", "default"): FieldType.STRINGS,
}
_SAMPLES: dict[FieldType, Any] = {
    FieldType.STRING: "a",
    FieldType.UUID: bytes(16),
    FieldType.INTEGER: 0,
    FieldType.NUMBER: Decimal(0),
    FieldType.BOOLEAN: True,
    FieldType.DATETIME: datetime(2024, 1, 1, tzinfo=UTC),
    FieldType.STRINGS: ["a"],
}
_TEXT_RULES = ("enum", "pattern", "pattern_hint", "min_length", "max_length", "max_words")
_NUMBER_RULES = ("minimum", "maximum")


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key as declared; the registry finds what it refers to."""

    field: str
    resource: str
    target_field: str
    place: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A resource whose references, and filters through them, are not resolved yet."""

    resource: Resource
    links: tuple[Link, ...]
    filters: tuple[FilterSpec, ...]
    faults: Faults


def compile_descriptor(spec: DescriptorSpec, faults: Faults) -> Draft:
    """Never raises: what is wrong is added to `faults`, and the draft is then of no use but to look for more."""
    schema = spec.schema
    fields = _fields(schema.fields, "schema.fields", faults)
    by_name = {f.name: f for f in fields}
    children = tuple(
        Child(c.field, c.table, c.parent_column, _fields(c.fields, f"schema.children[{n}].fields", faults))
        for n, c in enumerate(schema.children)
    )
    primary_key = _one(schema.primary_key, "schema.primaryKey", faults) or ""
    resource = Resource(
        name=ResourceName(spec.name),
        table=spec.table or spec.name,
        fields=fields,
        primary_key=primary_key,
        natural_key=schema.natural_key if schema.natural_key != primary_key else None,
        folds_case=schema.caseless,
        children=children,
        rules=tuple(r for n, rule in enumerate(schema.rules) if (r := _rule(rule, fields, primary_key, f"schema.rules[{n}]", faults))),
        title=spec.title,
    )
    _check_tables(spec, faults)
    _check_names(resource, faults)
    _check_keys(resource, schema, by_name, faults)
    _check_unique(resource, schema, faults)
    _check_children(schema, faults)
    links = tuple(_links(spec, by_name, faults))
    check_filters(schema.filters, resource, [link.field for link in links], faults)
    return Draft(resource, links, tuple(schema.filters), faults)


def _fields(specs: Sequence[FieldSpec], place: str, faults: Faults) -> tuple[Field, ...]:
    if not specs and not faults.has(place):
        faults.add(place, "needs at least one field")
    before = len(faults.found)
    names = [s.name for s in specs]
    for name in sorted({n for n in names if names.count(n) > 1}):
        faults.add(place, f"the field {name} stands twice")
    fields = {f"{place}[{n}]": f for n, spec in enumerate(specs) if (f := _field(spec, f"{place}[{n}]", faults))}
    if len(faults.found) == before:
        _check_defaults(fields, faults)
    return tuple(fields.values())


def _field(spec: FieldSpec, place: str, faults: Faults) -> Field | None:
    place = f"{place} ({spec.name})"
    if spec.name in RESERVED_NAMES | _SYSTEM_COLUMNS:
        faults.add(f"{place}.name", f"{spec.name} is kept for other things; choose another name")
        return None
    kind = _TYPES.get((spec.type, spec.format))
    if kind is None:
        allowed = ", ".join(t if f == "default" else f"{t} with format {f}" for t, f in _TYPES)
        faults.add(f"{place}.type", f"{spec.type!r} with format {spec.format!r} is not allowed; allowed are {allowed}")
        return None
    before = len(faults.found)
    _check_applicable(spec, kind, place, faults)
    if len(faults.found) > before:
        return None
    rules = spec.constraints
    field = Field(
        name=spec.name,
        type=kind,
        required=rules.required,
        email=spec.format == "email",
        pattern=_pattern(rules, place, faults),
        pattern_hint=rules.pattern_hint or (f"text that matches {rules.pattern}" if rules.pattern else None),
        enum=tuple(rules.enum or ()),
        min_length=rules.min_length,
        max_length=rules.max_length,
        max_words=rules.max_words,
        minimum=_bound(rules.minimum, spec, kind, f"{place}.constraints.minimum", faults),
        maximum=_bound(rules.maximum, spec, kind, f"{place}.constraints.maximum", faults),
        precision=spec.precision,
        scale=spec.scale or 0,
        default=_default(spec.default, kind),
        touch=spec.touch,
        description=spec.description or spec.title,
    )
    if len(faults.found) == before:
        _check_limits(field, place, faults)
    return field


def _check_applicable(spec: FieldSpec, kind: FieldType, place: str, faults: Faults) -> None:
    """Words that mean nothing for a field's type, and words that contradict each other."""
    rules = spec.constraints
    allowed = {FieldType.STRING: _TEXT_RULES, FieldType.INTEGER: _NUMBER_RULES, FieldType.NUMBER: _NUMBER_RULES}.get(kind, ())
    for name in (*_TEXT_RULES, *_NUMBER_RULES):
        if getattr(rules, name) is not None and name not in allowed:
            faults.add(f"{place}.constraints", f"{name.replace('_', ' ')} means nothing for the type {spec.type}")
    if kind is FieldType.NUMBER:
        if not 1 <= (spec.precision or 0) <= MAX_PRECISION or spec.scale is None or spec.scale > (spec.precision or 0):
            faults.add(
                place,
                f"a number needs a precision (1 to {MAX_PRECISION} digits in all) and a scale (digits after the point)",
            )
    elif spec.precision is not None or spec.scale is not None:
        faults.add(place, f"precision and scale mean nothing for the type {spec.type}")
    if spec.touch and spec.default != NOW:
        faults.add(f"{place}.touch", f"needs the default {NOW}")
    if spec.item_type not in (None, "string") or (spec.item_type and kind is not FieldType.STRINGS):
        faults.add(f"{place}.itemType", "only a list has it, and only string is allowed")
    if rules.enum is not None and (not rules.enum or len(set(rules.enum)) < len(rules.enum) or "" in rules.enum):
        faults.add(f"{place}.constraints.enum", "needs at least one value, each once, none empty")
    if rules.min_length is not None and rules.max_length is not None and rules.min_length > rules.max_length:
        faults.add(f"{place}.constraints", "minLength is above maxLength")


def _pattern(rules: ConstraintsSpec, place: str, faults: Faults) -> str | None:
    """The pattern for the whole text, as Table Schema means it."""
    if rules.pattern is None:
        return None
    try:
        pl.Series([""]).str.contains(rules.pattern)
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("This error occurred")[0]
        faults.add(
            f"{place}.constraints.pattern", f"{rules.pattern!r} is not a regular expression of Rust's kind: {' '.join(reason.split())}"
        )
    whole = rules.pattern.startswith("^") and rules.pattern.endswith("$") and "|" not in rules.pattern
    return rules.pattern if whole else f"^(?:{rules.pattern})$"


def _bound(given: float | str | None, spec: FieldSpec, kind: FieldType, place: str, faults: Faults) -> Decimal | None:
    if given is None:
        return None
    precision, scale = (10, 0) if kind is FieldType.INTEGER else (spec.precision or MAX_PRECISION, spec.scale or 0)
    try:
        bound = Decimal(str(given))
        exact = exact_decimal(str(given), precision, scale)
    except InvalidOperation:
        exact = None
    if not isinstance(exact, Decimal):
        faults.add(place, f"{given!r} is not allowed: a number that the field itself could hold")
        return None
    return bound


def _default(given: Any, kind: FieldType) -> str | None:
    if given is None:
        return None
    text = given if isinstance(given, str) else msgspec.json.encode(given).decode()
    return text.lower() if kind is FieldType.BOOLEAN else text


def _check_limits(field: Field, place: str, faults: Faults) -> None:
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        faults.add(f"{place}.constraints", "minimum is above maximum")


def _check_defaults(fields: Mapping[str, Field], faults: Faults) -> None:
    """All at once, since every command starts here; one by one only to tell whose is wrong."""
    unfit = {place: fault for place, f in fields.items() if (fault := _unfit_default(f)) is not None}
    for place, fault in unfit.items():
        faults.add(f"{place} ({fields[place].name}).default", fault)
    now = datetime.now(UTC)
    fields = {place: f for place, f in fields.items() if place not in unfit and f.default != NOW}
    with suppress(ValueError):
        typed_defaults(list(fields.values()), now)
        return
    for place, field in fields.items():
        try:
            typed_defaults([field], now)
        except ValueError as error:
            faults.add(f"{place} ({field.name}).default", str(error))


def _unfit_default(field: Field) -> str | None:
    """A literal has to mean the same to the import, to Polars' rules and to PostgreSQL's DEFAULT."""
    if field.default is None:
        return None
    if field.default == NOW and field.type is not FieldType.DATETIME:
        return f"{NOW} is the default of datetimes only"
    if field.type is FieldType.DATETIME and field.default != NOW:
        return f"{field.default!r} is not allowed: a datetime's only default is {NOW}"
    if field.type is FieldType.UUID:
        return "a uuid has no default"
    if field.type is FieldType.BOOLEAN and field.default not in ("true", "false"):
        return f"{field.default!r} is not allowed: true or false"
    return None


def _rule(spec: RuleSpec, fields: Sequence[Field], primary_key: str, place: str, faults: Faults) -> Rule | None:
    """The rule, if both its field and every name in its expression are fields, and the expression yields true or false for each record."""
    if faults.has("schema.fields"):
        return None  # every rule that names a field with a fault would be reported for nothing
    names = [f.name for f in fields]
    if spec.field not in names:
        faults.add(f"{place}.field", f"{spec.field} is not a field; fields are {', '.join(names)}")
    try:
        expression = pl.sql_expr(spec.expression)
        read = tuple(dict.fromkeys(expression.meta.root_names()))
    except (pl.exceptions.PolarsError, ValueError) as error:
        faults.add(f"{place}.expression", f"is not an SQL condition: {' '.join(str(error).split())}")
        return None
    unknown = [n for n in read if n not in names]
    if unknown or not read:
        faults.add(
            f"{place}.expression", f"must name fields and nothing else, not {', '.join(unknown) or 'none'}; fields are {', '.join(names)}"
        )
        return None
    # A generated key is made after the rules are judged, and to compare lists PostgreSQL and Polars have no function in common.
    unfit = [f.name for f in fields if f.name in read and (f.name == primary_key or f.type is FieldType.STRINGS)]
    if unfit:
        faults.add(f"{place}.expression", f"cannot read {', '.join(unfit)}: rules read neither lists nor the primary key")
        return None
    if (fault := _not_a_condition(expression, fields)) is not None:
        faults.add(f"{place}.expression", fault)
    return Rule(spec.code, spec.field, spec.expression, spec.message, read)


def _not_a_condition(expression: pl.Expr, fields: Sequence[Field]) -> str | None:
    # A row of values beside one of nulls: some comparisons between types fail only when there is something to compare.
    two_rows = pl.DataFrame({f.name: pl.Series([None, _SAMPLES[f.type]], dtype=polars_type(f)) for f in fields})
    try:
        answers = two_rows.lazy().select(expression.alias("answer")).collect()
    except pl.exceptions.PolarsError as error:
        return f"does not fit the fields' types: {' '.join(str(error).split())}"
    if answers.height != two_rows.height or answers.schema["answer"] != pl.Boolean:
        return "must be true or false for each record by itself"
    return None


def _one(names: str | list[str], place: str, faults: Faults) -> str | None:
    listed = [names] if isinstance(names, str) else names
    if len(listed) != 1:
        faults.add(place, "must name one field; keys of several fields are not supported")
        return None
    return listed[0]


def _check_tables(spec: DescriptorSpec, faults: Faults) -> None:
    tables = [("table" if spec.table else "name", spec.table or spec.name)]
    tables += [(f"schema.children[{n}].table", child.table) for n, child in enumerate(spec.schema.children)]
    for place, table in tables:
        if len(table) > MAX_TABLE_LENGTH:
            faults.add(place, f"{table} is too long: a table's name has at most {MAX_TABLE_LENGTH} characters")


def _check_names(resource: Resource, faults: Faults) -> None:
    taken = [*resource.by_name, *([resource.key_column] if resource.key_column else [])]
    for n, child in enumerate(resource.children):
        place = f"schema.children[{n}]"
        if child.field in (*taken, *RESERVED_NAMES):
            faults.add(f"{place}.field", f"{child.field} is taken; choose another name")
        taken.append(child.field)
    if resource.key_column in resource.by_name:
        faults.add("schema.caseless", f"{resource.key_column} holds the canonical key and may not be a field")
    codes = [r.code for r in resource.rules]
    for code in sorted({c for c in codes if codes.count(c) > 1}):
        faults.add("schema.rules", f"the code {code} stands twice")


def _check_keys(resource: Resource, schema: SchemaSpec, by_name: dict[str, Field], faults: Faults) -> None:
    if [*by_name] == [resource.primary_key] and not faults.has("schema.fields"):
        faults.add("schema.fields", f"needs a field beside the primary key {resource.primary_key}")
    if schema.caseless and not resource.natural_key:
        faults.add("schema.caseless", "needs a naturalKey that is compared without case")
    for name, place in ((resource.primary_key, "schema.primaryKey"), (resource.natural_key, "schema.naturalKey")):
        if not name or faults.has("schema.fields"):
            continue
        field = by_name.get(name)
        if field is None:
            faults.add(place, f"{name} is not a field; fields are {', '.join(by_name)}")
            continue
        natural = place == "schema.naturalKey"
        if field.type not in ((FieldType.STRING,) if natural else (FieldType.STRING, FieldType.UUID)):
            faults.add(place, f"{name} cannot be a key: allowed are {'string' if natural else 'string, string with format uuid'}")
            continue
        if field.default is not None:
            faults.add(place, f"{name} is a key and cannot have a default")
        if not field.required and (natural or field.type is not FieldType.UUID):
            faults.add(place, f"{name} must be required: only a uuid is generated for a record that lacks it")
        if field.type is FieldType.STRING and not (field.enum or (field.max_length or MAX_KEY_LENGTH + 1) <= MAX_KEY_LENGTH):
            faults.add(place, f"{name} needs a maxLength of at most {MAX_KEY_LENGTH}, which is what an index entry holds")


def _check_unique(resource: Resource, schema: SchemaSpec, faults: Faults) -> None:
    if faults.has("schema.primaryKey") or faults.has("schema.naturalKey"):
        return
    for n, field in enumerate(schema.fields):
        if field.constraints.unique and field.name not in (resource.primary_key, resource.natural_key):
            faults.add(f"schema.fields[{n}] ({field.name}).constraints.unique", "only the primary key and the natural key can be unique")


def _check_children(schema: SchemaSpec, faults: Faults) -> None:
    for n, child in enumerate(schema.children):
        place = f"schema.children[{n}]"
        if child.parent_column in (f.name for f in child.fields):
            faults.add(f"{place}.parentColumn", f"{child.parent_column} is one of the child's fields")
        if child.parent_column in _CHILD_COLUMNS | _SYSTEM_COLUMNS:
            faults.add(f"{place}.parentColumn", f"{child.parent_column} is kept for other things; choose another name")
        for m, field in enumerate(child.fields):
            here = f"{place}.fields[{m}] ({field.name})"
            if field.name in _CHILD_COLUMNS:
                faults.add(f"{here}.name", f"{field.name} is a column that every child's table has; choose another name")
            if field.constraints.unique:
                faults.add(f"{here}.constraints.unique", "a child's fields cannot be unique")
            if field.default is not None:
                faults.add(f"{here}.default", "a child's fields cannot have defaults")


def _links(spec: DescriptorSpec, by_name: dict[str, Field], faults: Faults) -> list[Link]:
    links = []
    own_keys = {*([primary] if isinstance(primary := spec.schema.primary_key, str) else primary), spec.schema.natural_key}
    for n, key in enumerate(spec.schema.foreign_keys):
        place = f"schema.foreignKeys[{n}]"
        name, target = _one(key.fields, f"{place}.fields", faults), _one(key.reference.fields, f"{place}.reference.fields", faults)
        if name is None or target is None:
            continue
        if name not in by_name and not faults.has("schema.fields"):
            faults.add(f"{place}.fields", f"{name} is not a field; fields are {', '.join(by_name)}")
        elif name in own_keys:
            # A reference given by natural key becomes an id only after it is known which records of a wave share a key.
            faults.add(f"{place}.fields", f"{name} is a key of {spec.name} itself and cannot refer to another record")
        elif name in by_name and by_name[name].default is not None:
            faults.add(f"{place}.fields", f"{name} has a default, and a reference cannot have one")
        elif name in by_name:
            links.append(Link(name, key.reference.resource or spec.name, target, place))
    return links
