"""What a resource is: fields with types and rules, keys, references, children, filters.

These are the compiled declarations that everything else is derived from: tables, checks, merge statements, documents. They are made by
`penstock.resources.descriptors` from YAML in the words of the Frictionless Table Schema. Nothing here names a built-in resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NewType

ResourceName = NewType("ResourceName", str)


class FieldType(StrEnum):
    """A field's type, with the PostgreSQL and Polars types that hold it."""

    STRING = "string"  # text; String
    UUID = "uuid"  # uuid; Binary of 16 bytes
    INTEGER = "integer"  # integer; Int32
    NUMBER = "number"  # numeric(precision, scale); Decimal
    BOOLEAN = "boolean"  # boolean; Boolean
    DATETIME = "datetime"  # timestamptz; Datetime("us", "UTC")
    STRINGS = "strings"  # text[]; List(String)


NOW = "now()"  # the one default that is not a literal: the moment of the wave that inserts the row


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: FieldType
    required: bool = False
    email: bool = False
    pattern: str | None = None  # both Rust's regex and PostgreSQL's understand it
    pattern_hint: str | None = None  # the pattern in words, for messages
    enum: tuple[str, ...] = ()
    min_length: int | None = None  # characters
    max_length: int | None = None  # characters
    max_words: int | None = None  # runs of non-space
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    precision: int | None = None  # NUMBER: digits in all
    scale: int = 0  # NUMBER: digits after the point
    default: str | None = None  # as text, or NOW; None: no value
    touch: bool = False  # with the default NOW: an import sets it to now in a row that it changes, unless the record brings a value
    description: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """`field` holds the primary key of a row of `resource`; `alias` may hold its natural key instead."""

    field: str
    resource: ResourceName
    table: str
    alias: str | None = None  # `author_email`; None where the target has no natural key beside its primary key
    alias_key: Field | None = None  # the target's natural key field
    alias_folds: bool = False  # the target compares its natural key without case


@dataclass(frozen=True, slots=True)
class Child:
    """Records inside a record: `field` is the list in the parent, each row of `table` points to its parent by `parent_column`."""

    field: str
    table: str
    parent_column: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields: `expression` is an SQL condition for both PostgreSQL and Polars' SQL; only false breaks it."""

    code: str
    field: str  # the field that the problem is reported at
    expression: str
    message: str
    fields: tuple[str, ...]  # the fields that the expression reads


@dataclass(frozen=True, slots=True)
class FilterTarget:
    """Where a named filter looks: a field of the resource itself, or a field of what `reference` refers to."""

    field: Field
    reference: Reference | None = None

    @property
    def path(self) -> str:
        """As it is declared: `tags`, or `author_id.email`."""
        return f"{self.reference.field}.{self.field.name}" if self.reference else self.field.name


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """Holds for a record where any of the targets has the value asked for; a list has it where it is one of the items."""

    name: str
    targets: tuple[FilterTarget, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    name: ResourceName
    table: str
    fields: tuple[Field, ...]
    primary_key: str = "id"
    natural_key: str | None = None  # None: only the primary key identifies a record
    folds_case: bool = False  # the natural key is compared without case, by `penstock.resources.keys`
    references: tuple[Reference, ...] = ()
    children: tuple[Child, ...] = ()
    rules: tuple[Rule, ...] = ()
    filters: tuple[NamedFilter, ...] = ()
    title: str = ""
    by_name: Mapping[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {f.name: f for f in self.fields})

    @property
    def touched(self) -> tuple[Field, ...]:
        """Fields that tell when a row changed."""
        return tuple(f for f in self.fields if f.touch)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names under which a reference may be given by natural key."""
        return tuple(r.alias for r in self.references if r.alias)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every name that a record may use: fields, aliases and children."""
        return (*self.by_name, *self.aliases, *(c.field for c in self.children))

    @property
    def generates_key(self) -> bool:
        """A record without a primary key gets one made here."""
        return self.by_name[self.primary_key].type is FieldType.UUID

    @property
    def key_column(self) -> str | None:
        """The column beside a case-folding natural key that holds its canonical form where lower-casing ASCII does not give it."""
        return f"{self.natural_key}_key" if self.folds_case else None
