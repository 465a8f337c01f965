"""Descriptors: resources as people write them, in the words of the Frictionless Table Schema and a few more.

Decoding is strict: what is not understood is refused, not passed over, and every fault of a file is reported at once. Beyond the standard's
words a schema may have `naturalKey`, `caseless`, `children`, `rules` and `filters`, a field `precision`, `scale`, `default` and `touch`,
its constraints `maxWords` and `patternHint`. (Table Schema: https://specs.frictionlessdata.io/table-schema/)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec
import yaml

from penstock.errors import InvalidResourceError

IDENTIFIER = r"^[a-z_][a-z0-9_]{0,58}$"  # PostgreSQL cuts names at 63 bytes; the rest is left for suffixes such as `_key`

_NAME_HINT = "a name has lower-case letters, digits and _, at most 59 of them, and does not begin with a digit"
Name = Annotated[str, msgspec.Meta(pattern=IDENTIFIER)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Bound = int | float | str
Default = str | int | float | bool | list[str]


class Spec(msgspec.Struct, rename="camel"):
    """A part of a descriptor."""


class ConstraintsSpec(Spec):
    required: bool = False
    unique: bool = False
    enum: list[str] | None = None
    pattern: str | None = None
    pattern_hint: str | None = None  # the pattern in words
    minimum: Bound | None = None
    maximum: Bound | None = None
    min_length: Count | None = None  # characters
    max_length: Count | None = None  # characters
    max_words: Count | None = None


class FieldSpec(Spec):
    name: Name
    type: str = "string"
    format: str = "default"
    title: str = ""
    description: str = ""
    example: Any = None
    item_type: str | None = None  # of a list
    default: Default | None = None
    touch: bool = False  # set to now in every row that an import changes
    precision: Count | None = None  # of a number: digits in all
    scale: Count | None = None  # of a number: digits after the point
    constraints: ConstraintsSpec = msgspec.field(default_factory=ConstraintsSpec)


class TargetSpec(Spec):
    resource: str  # empty: the same resource
    fields: str | list[str]


class ForeignKeySpec(Spec):
    fields: str | list[str]
    reference: TargetSpec


class ChildSpec(Spec, kw_only=True):
    field: Name
    table: Name
    parent_column: Name
    title: str = ""
    description: str = ""
    fields: list[FieldSpec]


class RuleSpec(Spec):
    code: Name
    field: Name
    expression: str
    message: str


class FilterSpec(Spec):
    name: Name
    fields: list[str]  # each a field, or a foreign key, a dot and a field of what it refers to
    description: str = ""


class SchemaSpec(Spec):
    fields: list[FieldSpec]
    primary_key: str | list[str]
    natural_key: Name | None = None
    caseless: bool = False  # the natural key is compared without case
    foreign_keys: list[ForeignKeySpec] = []
    children: list[ChildSpec] = []
    rules: list[RuleSpec] = []
    filters: list[FilterSpec] = []


class DescriptorSpec(Spec, kw_only=True):
    name: Name
    title: str = ""
    description: str = ""
    table: Name | None = None  # the resource's name if not given
    schema: SchemaSpec


@dataclass(slots=True)
class Faults:
    """What is wrong with the descriptor in `file`; noted one by one and raised together by `raise_faults`."""

    file: str
    found: list[tuple[str, str]] = field(default_factory=list)  # place in the file, what is wrong and what is allowed

    def add(self, place: str, message: str) -> None:
        self.found.append((place, message))

    def has(self, place: str) -> bool:
        """Whether something at or below the place is at fault already."""
        return any(p == place or p.startswith((f"{place}.", f"{place}[")) for p, _ in self.found)


def raise_faults(faults: Iterable[Faults]) -> None:
    """Raise one InvalidResourceError for the faults of all files; nothing if there are none."""
    found = [{"file": f.file, "place": place, "message": message} for f in faults for place, message in f.found]
    if found:
        lines = [": ".join(part for part in (f["file"], f["place"], f["message"]) if part) for f in found]
        raise InvalidResourceError("\n".join(lines), faults=found)


def read_descriptor(path: Path, faults: Faults) -> DescriptorSpec | None:
    """The descriptor in a YAML or JSON file; None, with the reasons in `faults`, if it is none."""
    try:
        return parse_descriptor(path.read_text(encoding="utf-8"), faults)
    except (OSError, UnicodeError) as error:
        faults.add("", f"cannot be read: {error}")
        return None


def parse_descriptor(text: str, faults: Faults) -> DescriptorSpec | None:
    try:
        raw = yaml.load(text, _StrictLoader)  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        faults.add("", f"is not valid YAML: {' '.join(str(error).split())}")
        return None
    spec = _decode(DescriptorSpec, raw, "", faults)
    return spec if isinstance(spec, DescriptorSpec) else None


# Written in C where PyYAML was built with libyaml, as its wheels are: every command reads the built-in descriptors when it starts.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SafeLoader):  # type: ignore[misc]  # one of two classes of the same shape
    """YAML without its surprises: a key stands once, `no` is a text and so is a date."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [(tag, pattern) for tag, pattern in pairs if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for n, key in enumerate(keys) if key in keys[:n]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def _decode(kind: Any, raw: Any, place: str, faults: Faults) -> Any:
    """As much of `raw` as is sound, with every fault noted, where msgspec alone would stop at the first; None if nothing is left."""
    if isinstance(kind, type) and issubclass(kind, Spec):
        return _decode_struct(kind, raw, place, faults)
    if get_origin(kind) is list and issubclass(get_args(kind)[0], Spec):
        if not isinstance(raw, list):
            faults.add(place, "must be a list")
            return None
        items = (_decode_struct(get_args(kind)[0], item, f"{place}[{n}]", faults) for n, item in enumerate(raw))
        return [item for item in items if item is not None]
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        faults.add(place, f"{raw!r} is not allowed: {_NAME_HINT if kind in (Name, Name | None) and isinstance(raw, str) else error}")
        return None


def _decode_struct(kind: type[Spec], raw: Any, place: str, faults: Faults) -> Spec | None:
    known = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    if not isinstance(raw, dict):
        faults.add(
            place, f"must be a mapping with {', '.join(name for name, f in known.items() if f.required) or 'some of ' + ', '.join(known)}"
        )
        return None
    for key in raw:
        if key not in known:
            faults.add(_at(place, key), f"is not known here; allowed are {', '.join(known)}")
    values = {f.name: _decode(f.type, raw[name], _at(place, name), faults) for name, f in known.items() if name in raw}
    for name, part in known.items():
        if part.required and name not in raw:
            faults.add(_at(place, name), "is required")
    values = {name: value for name, value in values.items() if value is not None}
    return kind(**values) if all(f.name in values for f in known.values() if f.required) else None


def _at(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)
