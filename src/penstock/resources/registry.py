"""The resources of a process: the built-in declarations and those of the folders and files it was given."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from importlib.resources import as_file, files
from pathlib import Path

from penstock.errors import UnknownResourceError
from penstock.resources.compiling import Draft, Link, compile_descriptor
from penstock.resources.descriptors import Faults, raise_faults, read_descriptor
from penstock.resources.filtering import resolved_filters
from penstock.resources.model import Reference, Resource, ResourceName
from penstock.resources.types import RESERVED_NAMES

_ENDINGS = (".yaml", ".yml", ".json")


class Registry:
    """Resources by name; iterating yields them parents first, so that each comes after everything it refers to."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = {r.name: r for r in resources}

    @classmethod
    def load(cls, *more: Path) -> "Registry":
        """The built-in resources and the descriptors in `more`: files, or folders whose .yaml, .yml and .json files are read.

        Raises InvalidResourceError with every fault of every file.
        """
        with as_file(files("penstock.resources") / "builtin") as builtin:
            return cls.of(builtin, *more)

    @classmethod
    def of(cls, *places: Path) -> "Registry":
        """Like `load`, without the built-in resources."""
        drafts, faults = [], []
        for path in (file for place in places for file in _descriptor_files(place)):
            faults.append(own := Faults(str(path)))
            if spec := read_descriptor(path, own):
                drafts.append(compile_descriptor(spec, own))
        _check_distinct(drafts)
        by_name = {str(d.resource.name): d for d in drafts}
        # A target that could not be read would make faults of sound references to it.
        sound = not any(f.found for f in faults)
        resources = [_resolved(d, by_name) for d in drafts] if sound else []
        ordered = _parents_first(resources, by_name) if not any(f.found for f in faults) else []
        raise_faults(faults)
        return cls(ordered)

    def get(self, name: str) -> Resource:
        """Raises UnknownResourceError, which names what there is."""
        if (resource := self._resources.get(ResourceName(name))) is not None:
            return resource
        raise UnknownResourceError(
            f"there is no resource {name!r}; there are {', '.join(self.names)}", resource=name, known=list(self.names)
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._resources)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def __len__(self) -> int:
        return len(self._resources)


def _descriptor_files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted(p for p in place.iterdir() if p.suffix in _ENDINGS and p.is_file())


def _check_distinct(drafts: list[Draft]) -> None:
    """A second resource of a name, or on a table, would silently write where another does."""
    names: dict[str, str] = {}
    tables: dict[str, str] = {}
    for draft in drafts:
        resource, file = draft.resource, draft.faults.file
        if (other := names.setdefault(resource.name, file)) != file:
            draft.faults.add("name", f"{resource.name} is declared in {other} already")
            continue
        for table in (resource.table, *(c.table for c in resource.children)):
            if table in tables:
                draft.faults.add("table", f"{table} belongs to {tables[table]} already")
            tables[table] = resource.name


def _resolved(draft: Draft, drafts: dict[str, Draft]) -> Resource:
    references = [r for link in draft.links if (r := _reference(draft, link, drafts))]
    taken = {*draft.resource.accepted, *RESERVED_NAMES}
    for reference in references:
        if reference.alias in taken:
            draft.faults.add("schema.fields", f"{reference.alias} stands for {reference.field} by natural key and may not be a field")
        taken.add(reference.alias or "")
    resource = replace(draft.resource, references=tuple(references))
    return replace(resource, filters=resolved_filters(draft.filters, resource, lambda name: drafts[name].resource, draft.faults))


def _reference(draft: Draft, link: Link, drafts: dict[str, Draft]) -> Reference | None:
    if link.resource not in drafts:
        draft.faults.add(f"{link.place}.reference.resource", f"there is no resource {link.resource!r}; there are {', '.join(drafts)}")
        return None
    target = drafts[link.resource].resource
    if link.target_field != target.primary_key:
        draft.faults.add(
            f"{link.place}.reference.fields", f"must be the primary key of {target.name}, {target.primary_key}, not {link.target_field}"
        )
        return None
    own, other = draft.resource.by_name[link.field], target.by_name[target.primary_key]
    if own.type is not other.type:
        draft.faults.add(f"{link.place}.fields", f"{link.field} is a {own.type}, {target.name}.{target.primary_key} a {other.type}")
        return None
    if target.natural_key is None:
        return Reference(link.field, target.name, target.table)
    alias = f"{link.field.removesuffix('_id')}_{target.natural_key}"
    return Reference(link.field, target.name, target.table, alias, target.by_name[target.natural_key], target.folds_case)


def _parents_first(resources: list[Resource], drafts: dict[str, Draft]) -> list[Resource]:
    by_name = {r.name: r for r in resources}
    graph = {r.name: sorted({f.resource for f in r.references} - {r.name}) for r in resources}
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        circle = list(error.args[1])
        drafts[circle[0]].faults.add("schema.foreignKeys", f"resources refer to each other in a circle: {' -> '.join(circle)}")
        return []
