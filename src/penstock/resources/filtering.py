"""Filters that a resource declares by name: `author` of an article finds it by the author's e-mail address, name or id.

A filter has one or more paths. `tags` is a field of the resource itself; `author_id.email` goes through a foreign key to a field of what it
refers to. What can be told from one descriptor is checked with it, the rest once all of them are known.
"""

from collections.abc import Callable, Iterable, Sequence

from penstock.resources.descriptors import Faults, FilterSpec
from penstock.resources.model import FilterTarget, NamedFilter, Resource, ResourceName

REQUEST_PARAMETERS = ("resource", "format", "fields", "filters", "spreadsheet", "compression")  # beside filters in a request
_MOST_PARTS = 2  # a field, or a foreign key and a field of what it refers to


def check_filters(specs: Sequence[FilterSpec], resource: Resource, keys: Iterable[str], faults: Faults) -> None:
    """`keys`: the resource's foreign key fields."""
    taken = {*resource.by_name, *(child.field for child in resource.children)}
    for n, spec in enumerate(specs):
        place = f"schema.filters[{n}]"
        if spec.name in REQUEST_PARAMETERS:
            faults.add(f"{place}.name", f"{spec.name} is a parameter of requests; choose another name")
        elif spec.name in taken:
            faults.add(f"{place}.name", f"{spec.name} is taken; choose another name")
        taken.add(spec.name)
        if not spec.fields:
            faults.add(f"{place}.fields", "needs at least one field")
        for path in dict.fromkeys(spec.fields):
            if spec.fields.count(path) > 1:
                faults.add(f"{place}.fields", f"{path} stands twice")
            if fault := _unfit_path(path, resource, set(keys), faults):
                faults.add(f"{place}.fields", fault)


def _unfit_path(path: str, resource: Resource, keys: set[str], faults: Faults) -> str | None:
    """Silent where the field or the key that it names is at fault itself."""
    head, *rest = path.split(".")
    if len(rest) >= _MOST_PARTS:
        return f"{path} is not allowed: a field, or a foreign key and a field of what it refers to, with one dot between"
    if head in (child.field for child in resource.children):
        return f"{head} is a list of children, and by those no filter looks"
    if head not in resource.by_name:
        return None if faults.has("schema.fields") else f"{head} is not a field; fields are {', '.join(resource.by_name)}"
    if rest and head not in keys and not faults.has("schema.foreignKeys"):
        return f"{head} is no foreign key; foreign keys are {', '.join(sorted(keys)) or 'none'}"
    return None


def resolved_filters(
    specs: Sequence[FilterSpec], resource: Resource, target: Callable[[ResourceName], Resource], faults: Faults
) -> tuple[NamedFilter, ...]:
    """The filters of a resource whose references are resolved; `target` gives what they refer to."""
    references = {reference.field: reference for reference in resource.references}
    filters = []
    for n, spec in enumerate(specs):
        place = f"schema.filters[{n}]"
        if spec.name in resource.aliases:
            faults.add(f"{place}.name", f"{spec.name} is taken: a reference may be given under it by natural key")
        targets = []
        for path in spec.fields:
            head, _, name = path.partition(".")
            if "." not in path:
                targets.append(FilterTarget(resource.by_name[head]))
            elif (reference := references.get(head)) is not None:  # else the reference itself is at fault, and told
                fields = target(reference.resource).by_name
                if name in fields:
                    targets.append(FilterTarget(fields[name], reference))
                else:
                    faults.add(f"{place}.fields", f"{path}: {reference.resource} has no such field; its fields are {', '.join(fields)}")
        filters.append(NamedFilter(spec.name, tuple(targets), spec.description))
    return tuple(filters)
