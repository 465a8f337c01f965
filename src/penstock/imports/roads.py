"""Which road a wave takes: straight into the table, compared first, or resolved first. A sample of its records decides."""

from enum import Enum
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from penstock.database.planner import index_lookups
from penstock.database.tables import column_type, key_expression
from penstock.imports.free import has_deferred_rules
from penstock.jobs.model import Mode
from penstock.resources.model import Resource

_SAMPLE = 100
_MOSTLY = 0.5
# After a straight wave met stored rows, so many waves are resolved first before the straight road is tried again.
_CAUTIOUS_WAVES = 4


class Road(Enum):
    STRAIGHT = "straight"  # no stored row was seen: COPY into the table, a unique violation tells otherwise
    COMPARE = "compare"  # mostly there: find what is stored exactly so, resolve the rest
    RESOLVE = "resolve"  # mixed


class RoadChooser:
    """Remembers how the straight road went: after a wave that met no stored row the next needs no sample, and a few stored rows among many
    new ones do not make every wave go twice.
    """

    def __init__(self, resource: Resource, mode: Mode) -> None:
        self._resource = resource
        self._mode = mode
        self._cautious = 0  # waves that are resolved first
        self._trusting = False

    def went_straight(self, *, met_stored_rows: bool) -> None:
        self._trusting = not met_stored_rows
        self._cautious = _CAUTIOUS_WAVES if met_stored_rows else 0

    def trusts_straight(self, frame: pl.DataFrame) -> bool:
        return self._trusting and not has_deferred_rules(frame)

    def choose(self, connection: psycopg.Connection[Any], frame: pl.DataFrame) -> Road:
        """By a sample of the wave."""
        self._trusting = False
        self._cautious -= 1
        known = self._known_share(connection, frame)
        if known >= _MOSTLY:
            return Road.COMPARE
        straight = known == 0 and self._cautious < 0 and self._mode is not Mode.UPDATE and not has_deferred_rules(frame)
        return Road.STRAIGHT if straight else Road.RESOLVE

    def _known_share(self, connection: psycopg.Connection[Any], frame: pl.DataFrame) -> float:
        """The share of a sample whose primary or natural key is stored."""
        if frame.is_empty():
            return 0.0
        sample = frame.gather_every(max(1, frame.height // _SAMPLE)).head(_SAMPLE)
        resource = self._resource
        primary = resource.primary_key
        ids = sample[primary].drop_nulls()
        texts = ids.bin.encode("hex") if ids.dtype == pl.Binary else ids
        table, id_type = sql.Identifier(resource.table), column_type(resource.by_name[primary])
        with connection.transaction(), index_lookups(connection):
            known = _count(connection, table, sql.Identifier("t", primary), id_type, texts.to_list())
            key = key_expression(resource, "t")
            if key is not None:
                known = max(known, _count(connection, table, key, sql.SQL("text"), sample["key"].drop_nulls().to_list()))
        return known / sample.height


def _count(connection: psycopg.Connection[Any], table: sql.Identifier, column: sql.Composable, kind: sql.SQL, keys: list[str]) -> int:
    if not keys:
        return 0
    statement = sql.SQL("SELECT count(*) FROM unnest(%s::text[]) AS k(key) JOIN {} t ON {} = k.key::{}").format(table, column, kind)
    row = connection.execute(statement, [keys]).fetchone()
    return int(row[0]) if row else 0
