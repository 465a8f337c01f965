"""Tied records, applied in file order in memory: the specification of an import, record by record.

The mirror holds every stored row that the records can touch. What comes out is the list of writes that brings the table to where applying
the records one by one would have brought it: one write per row, more only where a row is renamed, since a key must be free before another
row takes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.imports.references import uuid_text
from penstock.imports.statements import keeps_stored
from penstock.jobs.model import Empty, ImportOptions, Mode
from penstock.resources.model import Field, FieldType, Reference, Resource
from penstock.resources.problems import Kind, Problem

Values = dict[str, Any]


@dataclass(slots=True)
class Row:
    values: Values  # the table's columns; ids as the frame has them
    key: str | None
    children: dict[str, list[Values]]
    pending: "Write | None" = None  # the write that will bring the row here; later values join it


@dataclass(slots=True)
class Write:
    insert: bool
    values: Values


@dataclass(slots=True)
class Outcome:
    imported: int = 0
    updated: int = 0
    unchanged: int = 0
    problems: list[Problem] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    children: dict[str, dict[Any, list[Values]]] = field(default_factory=dict)  # child field -> primary key -> its children now


class Mirror:
    """Stored rows by primary key and by natural key."""

    def __init__(self, resource: Resource) -> None:
        self._primary = resource.primary_key
        self.rows: dict[Any, Row] = {}
        self.by_key: dict[str, Row] = {}

    def add(self, row: Row) -> None:
        self.rows[row.values[self._primary]] = row
        if row.key is not None:
            self.by_key[row.key] = row

    def rename(self, row: Row, key: str | None) -> None:
        if row.key is not None:
            del self.by_key[row.key]
        row.key = key
        if key is not None:
            self.by_key[key] = row


class Settler:
    """Applies records to a mirror. `breaks` names the first rule that a row's values break, or None."""

    def __init__(
        self, resource: Resource, options: ImportOptions, mirror: Mirror, cleared: Mapping[str, Any], breaks: Callable[[Values], str | None]
    ) -> None:
        self._resource = resource
        self._options = options
        self._mirror = mirror
        self._cleared = cleared  # what clearing a field leaves: its default, or None
        self._breaks = breaks
        self._touched = resource.touched
        self._own = [r for r in resource.references if r.resource == resource.name]
        self.outcome = Outcome(children={child.field: {} for child in resource.children})

    def apply(self, record: Values, fresh: Values) -> None:
        """Apply one record: `fresh` is the row it becomes if it is new."""
        problems, target = self._match(record)
        problems = problems or self._resolve_own(record, fresh)
        if problems:
            self.outcome.problems += problems
        elif target is None:
            self._insert(record, fresh)
        else:
            self._update(record, target)

    def _match(self, record: Values) -> tuple[list[Problem], Row | None]:
        by_id = self._mirror.rows.get(record[self._resource.primary_key])
        by_key = self._mirror.by_key.get(record["key"]) if record.get("key") is not None else None
        if self._options.mode is Mode.INSERT:
            taken = [(by_id, self._resource.primary_key), (by_key, self._resource.natural_key)]
            return [self._problem(record, Kind.DUPLICATE, name) for row, name in taken if row and name], None
        if by_id and by_key and by_id is not by_key and self._resource.natural_key:
            return [self._problem(record, Kind.DUPLICATE, self._resource.natural_key)], None
        target = by_id or by_key
        if target is None and self._options.mode is Mode.UPDATE:
            return [Problem(record["row"], Kind.NOT_FOUND)], None
        return [], target

    def _resolve_own(self, record: Values, fresh: Values) -> list[Problem]:
        """References to the resource itself: to a stored row, to an earlier record, or to the record's own row."""
        problems = []
        for reference in self._own:
            problem = self._resolve_one(reference, record, fresh)
            if problem:
                problems.append(problem)
        return problems

    def _resolve_one(self, reference: Reference, record: Values, fresh: Values) -> Problem | None:
        name, alias = reference.field, reference.alias
        if alias and record[alias] is not None:
            row = self._mirror.by_key.get(record[alias])
            if row is None:
                return self._problem(record, Kind.DANGLING, alias, name)
            found = row.values[self._resource.primary_key]
            if record[name] not in (None, found):
                return self._problem(record, Kind.DISAGREEING, alias, name)
            record[name] = fresh[name] = found
        value = record[name]
        if value is None or value in self._mirror.rows or value == fresh[self._resource.primary_key]:
            return None
        return self._problem(record, Kind.DANGLING, name, name)

    def _problem(self, record: Values, kind: Kind, name: str, detail: str | None = None) -> Problem:
        value = record[name]
        if isinstance(value, bytes):
            value = uuid_text(value.hex())
        return Problem(record["row"], kind, name, None if value is None else str(value), detail)

    def _insert(self, record: Values, fresh: Values) -> None:
        code = record.get("broken_if_new")
        if code:
            self._reject_rule(record, code)
            return
        children = {child.field: record[child.field] or [] for child in self._resource.children}
        write = Write(insert=True, values=self._columns(fresh))
        row = Row(write.values, record.get("key"), children, write)
        self._mirror.add(row)
        self.outcome.writes.append(write)
        self._keep_children(row, {name: value for name, value in children.items() if value})
        self.outcome.imported += 1

    def _update(self, record: Values, target: Row) -> None:
        values = self._merged(record, target.values)
        children = {
            child.field: record[child.field]
            for child in self._resource.children
            if record[child.field] is not None and record[child.field] != target.children[child.field]
        }
        if children or values != target.values:
            self._touch(record, values)
        code = self._breaks(values)
        if code:
            self._reject_rule(record, code)
            return
        self.outcome.updated += 1
        if values == target.values and not children:
            self.outcome.unchanged += 1
            return
        self._write(target, values, record.get("key"))
        self._keep_children(target, children)

    def _write(self, row: Row, values: Values, key: str | None) -> None:
        if values == row.values:
            return
        renamed = key is not None and key != row.key
        if renamed:
            self._mirror.rename(row, key)
        # What the new value refers to may come after the pending write.
        refers_elsewhere = any(values[r.field] != row.values[r.field] for r in self._own)
        if row.pending is None or renamed or refers_elsewhere:
            row.pending = Write(insert=False, values=values)
            self.outcome.writes.append(row.pending)
        else:
            row.pending.values = values
        row.values = values

    def _keep_children(self, row: Row, children: Mapping[str, list[Values]]) -> None:
        for name, value in children.items():
            row.children[name] = value
            self.outcome.children[name][row.values[self._resource.primary_key]] = value

    def _reject_rule(self, record: Values, code: str) -> None:
        name = next(rule.field for rule in self._resource.rules if rule.code == code)
        self.outcome.problems.append(self._problem(record, Kind.RULE, name, code))

    def _columns(self, fresh: Values) -> Values:
        names = [f.name for f in self._resource.fields] + ([self._resource.key_column] if self._resource.key_column else [])
        return {name: fresh[name] for name in names}

    def _merged(self, record: Values, stored: Values) -> Values:
        merged = dict(stored)
        for f in self._resource.fields:
            if f.name != self._resource.primary_key:
                merged[f.name] = self._value(f, record[f.name], stored[f.name])
        key, column = self._resource.natural_key, self._resource.key_column
        if key and column and record[key] is not None:
            merged[column] = record[column]
        return merged

    def _touch(self, record: Values, values: Values) -> None:
        """As `statements` does it."""
        for f in self._touched:
            if record[f.name] is None:
                now, stored = self._cleared[f.name], values[f.name]
                values[f.name] = now if stored is None else max(now, stored)

    def _value(self, f: Field, given: Any, stored: Any) -> Any:
        if self._options.empty is Empty.KEEP or keeps_stored(f):
            nothing = given is None or (given == "" and f.type is FieldType.STRING)
            return stored if nothing else given
        return self._cleared[f.name] if given is None else given
