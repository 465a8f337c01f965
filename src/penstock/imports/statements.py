"""The statements of a merge, derived from a resource. `t` is the resource's table, `s` the staged records, `g` the rows they are meant for.

Staging tables are temporary, made once per connection and emptied at each commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from penstock.database.tables import column_type, columns, default_expression, key_expression
from penstock.jobs.model import Empty
from penstock.resources.model import NOW, Child, Field, FieldType, Resource

_AND, _OR, _COMMA = sql.SQL(" AND "), sql.SQL(" OR "), sql.SQL(", ")


@dataclass(frozen=True, slots=True)
class ChildStatements:
    child: Child
    table: sql.Identifier
    staging: sql.Identifier
    stage_columns: list[str]  # row, position and the child's fields
    copy_columns: list[str]  # parent, position and the child's fields
    changed: sql.Composed  # parameter: rows that bring children -> the rows whose stored children are others
    delete: sql.Composed  # parameter: rows
    delete_of: sql.Composed  # parameter: primary keys
    insert: sql.Composed  # parameter: rows
    stored: sql.Composed  # parameter: primary keys -> parent, position, fields


@dataclass(frozen=True, slots=True)
class Statements:
    """Everything that is said to PostgreSQL about one resource with one way to treat empty values."""

    table: sql.Identifier
    staging: sql.Identifier
    targets: sql.Identifier
    columns: list[str]  # of the table, as they are copied
    stage_columns: list[str]  # row, key and the table's columns
    prepare: list[sql.Composed]  # make the temporary tables
    empty: sql.Composed  # empty them before the transaction ends
    differing: sql.Composed  # -> row of every staged record that is not stored exactly so
    resolve: sql.Composed  # parameter: rows or NULL for all -> row, row by id, its key, row by key
    lock: sql.Composed  # -> how many of the targets still are what they were when they were resolved
    broken: list[tuple[str, sql.Composed]]  # rule code; -> rows that would break it once merged
    forget: sql.Composed  # parameter: rows that are no targets after all
    update: sql.Composed  # -> row of each record that changed something
    touch: sql.Composed | None  # parameter: rows of which the children alone have changed; None where nothing tells of changes
    load: sql.Composed  # parameters: ids, keys -> stored rows, locked
    insert_row: sql.Composed
    update_row: sql.Composed
    children: tuple[ChildStatements, ...]


def build(resource: Resource, empty: Empty) -> Statements:
    staging = sql.Identifier("pg_temp", f"staging_{resource.table}")
    targets = sql.Identifier("pg_temp", f"targets_{resource.table}")
    children = tuple(_child(child, targets) for child in resource.children)
    return Statements(
        table=sql.Identifier(resource.table),
        staging=staging,
        targets=targets,
        columns=columns(resource),
        stage_columns=["row", *(["key"] if resource.natural_key else []), *columns(resource)],
        prepare=[_make_staging(resource), _make_targets(resource), *(_make_child_staging(child) for child in resource.children)],
        empty=sql.SQL("TRUNCATE {}").format(_COMMA.join([staging, targets, *(c.staging for c in children)])),
        differing=_differing(resource, staging, empty),
        resolve=_resolve(resource, staging),
        lock=_lock(resource, staging, targets),
        broken=[(rule.code, _broken(resource, staging, targets, empty, rule.expression)) for rule in resource.rules],
        forget=sql.SQL("DELETE FROM {} WHERE row = ANY(%s)").format(targets),
        update=_update(resource, staging, targets, empty),
        touch=_touch(resource, staging, targets),
        load=_load(resource),
        insert_row=_insert_row(resource),
        update_row=_update_row(resource),
        children=children,
    )


def keeps_stored(field: Field) -> bool:
    """A field that `empty=clear` leaves alone: clearing a time of creation would set it to now, at each import."""
    return field.default == NOW


def _make_staging(resource: Resource) -> sql.Composed:
    parts: list[sql.Composable] = [sql.SQL("row bigint NOT NULL")]
    if resource.natural_key:
        parts.append(sql.SQL('key text COLLATE "C"'))
    parts += [sql.SQL("{} {}").format(sql.Identifier(f.name), column_type(f)) for f in resource.fields]
    if resource.key_column:
        parts.append(sql.SQL("{} text").format(sql.Identifier(resource.key_column)))
    return _temporary(f"staging_{resource.table}", parts)


def _make_targets(resource: Resource) -> sql.Composed:
    key_type = column_type(resource.by_name[resource.primary_key])
    return _temporary(f"targets_{resource.table}", [sql.SQL("row bigint NOT NULL"), sql.SQL("target {} NOT NULL").format(key_type)])


def _make_child_staging(child: Child) -> sql.Composed:
    parts = [sql.SQL("row bigint NOT NULL"), sql.SQL("position integer NOT NULL")]
    return _temporary(
        f"staging_{child.table}", [*parts, *(sql.SQL("{} {}").format(sql.Identifier(f.name), column_type(f)) for f in child.fields)]
    )


def _temporary(name: str, parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(sql.Identifier(name), _COMMA.join(parts))


def _primary(resource: Resource, alias: str) -> sql.Identifier:
    return sql.Identifier(alias, resource.primary_key)


def _id_text(resource: Resource, alias: str) -> sql.Composed:
    """Ids travel as text: a hundred thousand UUID objects cost more than the look-up."""
    if resource.by_name[resource.primary_key].type is FieldType.UUID:
        return sql.SQL("encode(uuid_send({}), 'hex')").format(_primary(resource, alias))
    return sql.SQL("{}::text").format(_primary(resource, alias))


def _key(resource: Resource, alias: str) -> sql.Composable:
    key = key_expression(resource, alias)
    assert key is not None
    return key


def _merged(resource: Resource, field: Field, empty: Empty) -> sql.Composable:
    """The value that a matched row has afterwards."""
    staged, stored = sql.Identifier("s", field.name), sql.Identifier("t", field.name)
    if field.name == resource.primary_key:
        return stored
    if empty is Empty.KEEP or keeps_stored(field):
        given = sql.SQL("nullif({}, '')").format(staged) if field.type is FieldType.STRING else staged
        return sql.SQL("coalesce({}, {})").format(given, stored)
    default = default_expression(field)
    return staged if default is None else sql.SQL("coalesce({}, {})").format(staged, default)


def _brought_columns(resource: Resource, empty: Empty) -> list[tuple[str, sql.Composable]]:
    """What the record alone makes of a matched row."""
    merged = [(f.name, _merged(resource, f, empty)) for f in resource.fields if f.name != resource.primary_key]
    if resource.key_column and resource.natural_key:
        kept = sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE {} END").format(
            sql.Identifier("s", resource.natural_key), sql.Identifier("t", resource.key_column), sql.Identifier("s", resource.key_column)
        )
        merged.append((resource.key_column, kept))
    return merged


def _merged_columns(resource: Resource, empty: Empty) -> list[tuple[str, sql.Composable]]:
    """What a matched row is afterwards."""
    if not resource.touched:
        return _brought_columns(resource, empty)
    differs, touched = _differs(resource, empty), {f.name: _touched(f) for f in resource.touched}
    return [
        (name, sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(differs, touched[name], value) if name in touched else value)
        for name, value in _brought_columns(resource, empty)
    ]


def _touched(field: Field) -> sql.Composable:
    """The value in a row that changes. Never earlier than the stored one: a row's own clock does not go back because another's is slow."""
    staged, stored = sql.Identifier("s", field.name), sql.Identifier("t", field.name)
    return sql.SQL("coalesce({}, greatest(now(), {}))").format(staged, stored)


def _differs(resource: Resource, empty: Empty) -> sql.Composable:
    parts = [
        sql.SQL("{} IS DISTINCT FROM {}").format(value, sql.Identifier("t", name)) for name, value in _brought_columns(resource, empty)
    ]
    return _OR.join(parts) if parts else sql.SQL("false")


def _differing(resource: Resource, staging: sql.Identifier, empty: Empty) -> sql.Composed:
    """One index look-up per record. A record whose id and key point to different rows matches nothing here and is resolved."""
    by_id = sql.SQL("{} = {}").format(_primary(resource, "t"), _primary(resource, "s"))
    if resource.natural_key is None:
        match: sql.Composable = by_id
    else:
        match = sql.SQL("{} = s.key AND ({} IS NULL OR {})").format(_key(resource, "t"), _primary(resource, "s"), by_id)
    return sql.SQL("SELECT s.row FROM {staging} s LEFT JOIN {table} t ON {match} WHERE {primary} IS NULL OR {differs}").format(
        staging=staging,
        table=sql.Identifier(resource.table),
        match=match,
        primary=_primary(resource, "t"),
        differs=_differs(resource, empty),
    )


def _resolve(resource: Resource, staging: sql.Identifier) -> sql.Composed:
    table = sql.Identifier(resource.table)
    keyed = resource.natural_key is not None
    by_key = sql.SQL("LEFT JOIN {table} b ON {key} = s.key").format(table=table, key=_key(resource, "b")) if keyed else sql.SQL("")
    return sql.SQL(
        "SELECT s.row, {a_text}, {a_key}, {b_text} FROM {staging} s LEFT JOIN {table} a ON {a} = {s} {by_key}"
        " WHERE %(rows)s::bigint[] IS NULL OR s.row = ANY(%(rows)s)"
    ).format(
        a=_primary(resource, "a"),
        a_text=_id_text(resource, "a"),
        a_key=_key(resource, "a") if keyed else sql.SQL("NULL::text"),
        b_text=_id_text(resource, "b") if keyed else sql.SQL("NULL::text"),
        s=_primary(resource, "s"),
        staging=staging,
        table=table,
        by_key=by_key,
    )


def _of_targets(resource: Resource, staging: sql.Identifier, targets: sql.Identifier) -> sql.Composed:
    return sql.SQL("{targets} g JOIN {staging} s ON s.row = g.row JOIN {table} t ON {t} = g.target").format(
        targets=targets, staging=staging, table=sql.Identifier(resource.table), t=_primary(resource, "t")
    )


def _lock(resource: Resource, staging: sql.Identifier, targets: sql.Identifier) -> sql.Composed:
    """Locked in the order of the primary key, as every import does, so that two of them wait and never deadlock."""
    still: sql.Composable = sql.SQL("{} = {}").format(_primary(resource, "t"), _primary(resource, "s"))
    if resource.natural_key is not None:
        still = sql.SQL("({} OR {} = s.key)").format(still, _key(resource, "t"))
    return sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {still} ORDER BY {t} FOR NO KEY UPDATE OF t) locked").format(
        source=_of_targets(resource, staging, targets), still=still, t=_primary(resource, "t")
    )


def _broken(resource: Resource, staging: sql.Identifier, targets: sql.Identifier, empty: Empty, expression: str) -> sql.Composed:
    values = [sql.SQL("{} AS {}").format(value, sql.Identifier(name)) for name, value in _merged_columns(resource, empty)]
    return sql.SQL("SELECT row FROM (SELECT s.row, {values} FROM {source}) merged WHERE NOT ({expression})").format(
        values=_COMMA.join(values),
        source=_of_targets(resource, staging, targets),
        expression=sql.SQL(expression),
    )


def _update(resource: Resource, staging: sql.Identifier, targets: sql.Identifier, empty: Empty) -> sql.Composed:
    values = [sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in _merged_columns(resource, empty)]
    return sql.SQL(
        "UPDATE {table} t SET {values} FROM {targets} g JOIN {staging} s ON s.row = g.row"
        " WHERE {t} = g.target AND ({differs}) RETURNING s.row"
    ).format(
        table=sql.Identifier(resource.table),
        values=_COMMA.join(values),
        targets=targets,
        staging=staging,
        t=_primary(resource, "t"),
        differs=_differs(resource, empty),
    )


def _touch(resource: Resource, staging: sql.Identifier, targets: sql.Identifier) -> sql.Composed | None:
    if not resource.touched:
        return None
    return sql.SQL(
        "UPDATE {table} t SET {values} FROM {targets} g JOIN {staging} s ON s.row = g.row WHERE {t} = g.target AND s.row = ANY(%(rows)s)"
    ).format(
        table=sql.Identifier(resource.table),
        values=_COMMA.join(sql.SQL("{} = {}").format(sql.Identifier(f.name), _touched(f)) for f in resource.touched),
        targets=targets,
        staging=staging,
        t=_primary(resource, "t"),
    )


def _load(resource: Resource) -> sql.Composed:
    """Stored rows that tied records may touch, with the key as it is compared. Locked in the order of the primary key."""
    keyed = resource.natural_key is not None
    found: sql.Composable = sql.SQL("{} = ANY(%(ids)s)").format(_primary(resource, "t"))
    if keyed:
        found = sql.SQL("{} OR {} = ANY(%(keys)s)").format(found, _key(resource, "t"))
    return sql.SQL("SELECT {key} AS key, {columns} FROM {table} t WHERE {found} ORDER BY {t} FOR NO KEY UPDATE").format(
        key=_key(resource, "t") if keyed else sql.SQL("NULL::text"),
        columns=_COMMA.join(sql.Identifier("t", name) for name in columns(resource)),
        table=sql.Identifier(resource.table),
        found=found,
        t=_primary(resource, "t"),
    )


def _insert_row(resource: Resource) -> sql.Composed:
    names = columns(resource)
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(resource.table), _COMMA.join(map(sql.Identifier, names)), _COMMA.join(map(sql.Placeholder, names))
    )


def _update_row(resource: Resource) -> sql.Composed:
    names = [name for name in columns(resource) if name != resource.primary_key]
    return sql.SQL("UPDATE {} SET {} WHERE {} = {}").format(
        sql.Identifier(resource.table),
        _COMMA.join(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names),
        sql.Identifier(resource.primary_key),
        sql.Placeholder(resource.primary_key),
    )


def _child(child: Child, targets: sql.Identifier) -> ChildStatements:
    names = [f.name for f in child.fields]
    parent = sql.Identifier("c", child.parent_column)
    table, staging = sql.Identifier(child.table), sql.Identifier("pg_temp", f"staging_{child.table}")
    parts = {
        "table": table,
        "staging": staging,
        "targets": targets,
        "parent": parent,
        "parent_name": sql.Identifier(child.parent_column),
        "names": _COMMA.join(map(sql.Identifier, names)),
        "from_child": _COMMA.join(sql.Identifier("c", name) for name in names),
    }
    return ChildStatements(
        child=child,
        table=table,
        staging=staging,
        stage_columns=["row", "position", *names],
        copy_columns=[child.parent_column, "position", *names],
        changed=sql.SQL(
            "WITH fresh AS (SELECT c.row, jsonb_agg(jsonb_build_array({from_child}) ORDER BY c.position) AS v"
            " FROM {staging} c GROUP BY c.row),"
            " stored AS (SELECT g.row, jsonb_agg(jsonb_build_array({from_child}) ORDER BY c.position) AS v"
            " FROM {targets} g JOIN {table} c ON {parent} = g.target WHERE g.row = ANY(%(rows)s) GROUP BY g.row)"
            " SELECT g.row FROM {targets} g LEFT JOIN fresh ON fresh.row = g.row LEFT JOIN stored ON stored.row = g.row"
            " WHERE g.row = ANY(%(rows)s) AND fresh.v IS DISTINCT FROM stored.v"
        ).format(**parts),
        delete=sql.SQL("DELETE FROM {table} c USING {targets} g WHERE {parent} = g.target AND g.row = ANY(%(rows)s)").format(**parts),
        delete_of=sql.SQL("DELETE FROM {table} c WHERE {parent} = ANY(%(ids)s)").format(**parts),
        insert=sql.SQL(
            "INSERT INTO {table} ({parent_name}, position, {names})"
            " SELECT g.target, c.position, {from_child} FROM {staging} c JOIN {targets} g ON g.row = c.row WHERE g.row = ANY(%(rows)s)"
        ).format(**parts),
        stored=sql.SQL("SELECT {parent}, {from_child} FROM {table} c WHERE {parent} = ANY(%(ids)s) ORDER BY {parent}, c.position").format(
            **parts
        ),
    )
