"""What a queued export was asked for, as the ledger keeps it: checked anew, since resources may have changed meanwhile."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.errors import InvalidFilterError, InvalidOptionError
from penstock.exports.filters import Asked, conditions
from penstock.exports.model import ExportWishes
from penstock.resources.registry import Registry


def options_of(wishes: ExportWishes) -> dict[str, Any]:
    options: dict[str, Any] = msgspec.to_builtins(wishes)
    return options


def stored_wishes(registry: Registry, options: Mapping[str, Any]) -> ExportWishes:
    """Raises UnknownResourceError, InvalidOptionError, InvalidFilterError for what is not there any more, or has another type now."""
    try:
        wishes = msgspec.convert(options, ExportWishes)
    except msgspec.ValidationError as error:
        raise InvalidOptionError("This version of Penstock does not understand what the export was asked for. Ask for it anew.") from error
    resource = registry.get(wishes.resource)
    fields = [*resource.by_name, *(child.field for child in resource.children)]
    if gone := [name for name in wishes.fields if name not in fields]:
        message = f"{resource.name} has no {', '.join(gone)} any more; it has {', '.join(fields)}. Ask for the export anew."
        raise InvalidOptionError(message, fields=gone, allowed=fields)
    filters = [*resource.by_name, *(named.name for named in resource.filters)]
    if gone := [condition.name for condition in wishes.conditions if condition.name not in filters]:
        message = f"{resource.name} cannot be filtered by {', '.join(gone)} any more. Ask for the export anew."
        raise InvalidFilterError(message, filters=gone, allowed=filters)
    asked = (Asked(each.name, each.operator, each.values) for each in wishes.conditions)
    return msgspec.structs.replace(wishes, conditions=conditions(resource, asked))
