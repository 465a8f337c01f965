"""`penstock resources`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from penstock.cli.failures import LANDED, print_json
from penstock.cli.options import ServerOption
from penstock.cli.session import Session
from penstock.cli.terminal import clean, safe

if TYPE_CHECKING:  # msgspec is not needed for --help
    from penstock.resources.describing import FieldDescription, ResourceDescription


def resources(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One resource, with its fields and rules.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")] = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session
) -> int:
    """Show what can be imported: resources, their fields, rules, keys and references."""
    session: Session = ctx.obj
    found = session.resources(name)
    if as_json:
        print_json(found[0] if name else {"items": found})
    elif name:
        _print_one(session, found[0])
    else:
        _print_all(session, found)
    return LANDED


def _print_all(session: Session, resources: "Sequence[ResourceDescription]") -> None:
    from penstock.cli.summary import plain_table  # noqa: PLC0415 - Rich's tables are not needed for --help

    table = plain_table(session.out, "Resource", "Table", "Key", "Refers to", "Fields", right=("Fields",))
    for resource in resources:
        keys = resource.primary_key + (f", or {resource.natural_key}" if resource.natural_key else "")
        refers = ", ".join(dict.fromkeys(r.resource for r in resource.references)) or "-"
        table.add_row(safe(resource.name, "bold"), safe(resource.table or "-"), safe(keys), safe(refers), str(len(resource.fields)))
    session.out.print(table)
    session.out.print(f"\nFields and rules of one: {session.hints.command('resources NAME')}", soft_wrap=True)


def _print_one(session: Session, resource: "ResourceDescription") -> None:
    from penstock.cli.summary import plain_table  # noqa: PLC0415 - Rich's tables are not needed for --help

    out = session.out
    out.print(safe(resource.name, "bold") + safe(f"  {resource.title}" if resource.title else ""))
    table = f"table {resource.table}; " if resource.table else ""
    out.print(safe(f"  {table}a record is known by {' or '.join(_keys(resource))}"))
    for title, fields in _groups(resource):
        out.print()
        shown = plain_table(out, title, "Type", "Rules", "Default", "Description")
        for field in fields:
            rules = safe("; ".join(rules_of(field)) or "-")
            shown.add_row(safe(f"  {field.name}", "bold"), field.type, rules, safe(field.default or "-"), safe(field.description))
        out.print(shown)
    lines = list(_remarks(resource))
    if lines:
        out.print()
    for line in lines:
        out.print(Text(f"  {line}"), soft_wrap=True)


def _keys(resource: "ResourceDescription") -> Iterator[str]:
    yield resource.primary_key
    if resource.natural_key:
        yield resource.natural_key + (" (without regard to case)" if resource.folds_case else "")


def _groups(resource: "ResourceDescription") -> "Iterator[tuple[str, list[FieldDescription]]]":
    yield "  Field", resource.fields
    for child in resource.children:
        yield f"  In each of {child.field}", child.fields


def _remarks(resource: "ResourceDescription") -> Iterator[str]:
    for reference in resource.references:
        alias = f"; or give {reference.alias}" if reference.alias else ""
        yield clean(f"{reference.field} refers to {reference.resource}{alias}")
    for rule in resource.rules:
        yield clean(f"{rule.code}: {rule.message}")
    for each in resource.filters:
        yield clean(f"exports filter by {each.name}: {', '.join(each.fields)}")


def rules_of(field: "FieldDescription") -> Iterator[str]:
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
