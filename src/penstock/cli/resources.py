"""`penstock resources`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from penstock.cli.failures import LANDED, print_json
from penstock.cli.session import Session
from penstock.cli.terminal import clean, safe

if TYPE_CHECKING:  # it imports Polars
    from penstock.resources.model import Field, Resource


def resources(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One resource, with its fields and rules.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")] = False,
) -> int:
    """Show what can be imported: resources, their fields, rules, keys and references."""
    session: Session = ctx.obj
    registry = session.registry()
    if as_json:
        print_json(described(registry.get(name)) if name else {"items": [described(resource) for resource in registry]})
    elif name:
        _print_one(session, registry.get(name))
    else:
        _print_all(session, list(registry))
    return LANDED


def described(resource: "Resource") -> dict[str, Any]:
    """The declaration as JSON; what is not set is left out."""
    import msgspec  # noqa: PLC0415 - not needed for --help

    shown = msgspec.to_builtins(
        {
            "name": resource.name,
            "title": resource.title,
            "table": resource.table,
            "primary_key": resource.primary_key,
            "natural_key": resource.natural_key,
            "folds_case": resource.folds_case,
            "fields": [_set_only(msgspec.to_builtins(field, enc_hook=str)) for field in resource.fields],
            "references": [{"field": r.field, "resource": r.resource, "alias": r.alias} for r in resource.references],
            "children": [
                {"field": c.field, "table": c.table, "fields": [_set_only(msgspec.to_builtins(f, enc_hook=str)) for f in c.fields]}
                for c in resource.children
            ],
            "rules": [{"code": r.code, "field": r.field, "expression": r.expression, "message": r.message} for r in resource.rules],
        }
    )
    assert isinstance(shown, dict)
    return shown


def _set_only(field: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in field.items() if value not in (None, [], (), "")}


def _print_all(session: Session, resources: "list[Resource]") -> None:
    from penstock.cli.summary import plain_table  # noqa: PLC0415 - Rich's tables are not needed for --help

    table = plain_table(session.out, "Resource", "Table", "Key", "Refers to", "Fields", right=("Fields",))
    for resource in resources:
        keys = resource.primary_key + (f", or {resource.natural_key}" if resource.natural_key else "")
        refers = ", ".join(dict.fromkeys(r.resource for r in resource.references)) or "-"
        table.add_row(safe(resource.name, "bold"), safe(resource.table), safe(keys), safe(refers), str(len(resource.fields)))
    session.out.print(table)
    session.out.print("\nFields and rules of one: penstock resources NAME")


def _print_one(session: Session, resource: "Resource") -> None:
    from penstock.cli.summary import plain_table  # noqa: PLC0415 - Rich's tables are not needed for --help

    out = session.out
    out.print(safe(resource.name, "bold") + safe(f"  {resource.title}" if resource.title else ""))
    out.print(safe(f"  table {resource.table}; a record is known by {' or '.join(_keys(resource))}"))
    for title, fields in _groups(resource):
        out.print()
        table = plain_table(out, title, "Type", "Rules", "Default", "Description")
        for field in fields:
            rules = safe("; ".join(rules_of(field)) or "-")
            table.add_row(safe(f"  {field.name}", "bold"), field.type.value, rules, safe(field.default or "-"), safe(field.description))
        out.print(table)
    lines = list(_remarks(resource))
    if lines:
        out.print()
    for line in lines:
        out.print(Text(f"  {line}"), soft_wrap=True)


def _keys(resource: "Resource") -> Iterator[str]:
    yield resource.primary_key
    if resource.natural_key:
        yield resource.natural_key + (" (without regard to case)" if resource.folds_case else "")


def _groups(resource: "Resource") -> "Iterator[tuple[str, tuple[Field, ...]]]":
    yield "  Field", resource.fields
    for child in resource.children:
        yield f"  In each of {child.field}", child.fields


def _remarks(resource: "Resource") -> Iterator[str]:
    for reference in resource.references:
        alias = f"; or give {reference.alias}" if reference.alias else ""
        yield clean(f"{reference.field} refers to {reference.resource}{alias}")
    for rule in resource.rules:
        yield clean(f"{rule.code}: {rule.message}")


def rules_of(field: "Field") -> Iterator[str]:
    """A field's rules in words."""
    pattern = field.pattern and (field.pattern_hint or f"matches {field.pattern}")
    rules = (
        ("required", field.required),
        ("an e-mail address", field.email),
        (f"one of {', '.join(field.enum)}", field.enum),
        (pattern or "", field.pattern),
        ("not empty" if field.min_length == 1 else f"at least {field.min_length} characters", field.min_length),
        (f"at most {field.max_length} characters", field.max_length is not None),
        (f"at most {field.max_words} words", field.max_words is not None),
        (f"at least {field.minimum}", field.minimum is not None),
        (f"at most {field.maximum}", field.maximum is not None),
        (f"{field.precision} digits, {field.scale} after the point", field.precision is not None),
    )
    return (words for words, applies in rules if applies)
