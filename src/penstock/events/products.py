"""What is said to PostgreSQL about the products that events are for, derived from the resource."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from penstock.events.model import Event
from penstock.resources.model import Resource

Connection = psycopg.Connection[Any]

# The row of a product is the greatest of its events: a stored row that lacks a value is below every event that has one. Rows are locked in
# the order of the key, as imports lock those that they update.
_WRITE = """
INSERT INTO {table} AS t ({id}, price, stock, updated_at)
SELECT i.id, i.price, i.stock, i.updated_at
FROM unnest(%(ids)s::text[], %(prices)s::numeric[], %(stocks)s::integer[], %(moments)s::timestamptz[]) AS i (id, price, stock, updated_at)
ORDER BY i.id
ON CONFLICT ({id}) DO UPDATE SET price = excluded.price, stock = excluded.stock, updated_at = excluded.updated_at
WHERE (coalesce(t.updated_at, '-infinity'), coalesce(t.price, '-infinity'), coalesce(t.stock, -1))
    < (excluded.updated_at, excluded.price, excluded.stock)
"""
# Of the rows that are there: whether this transaction has them now. The others are somebody else's.
_LOCK_FREE = """
WITH free AS MATERIALIZED (SELECT t.{id} AS id FROM {table} AS t WHERE t.{id} = ANY(%(ids)s::text[]) FOR NO KEY UPDATE SKIP LOCKED)
SELECT t.{id}, EXISTS (SELECT FROM free WHERE free.id = t.{id}) FROM {table} AS t WHERE t.{id} = ANY(%(ids)s::text[])
"""


class Products:
    """The table of products. Works in the transaction of the connection that it is given; the driver's errors come as they are."""

    def __init__(self, resource: Resource) -> None:
        names = {"table": sql.Identifier(resource.table), "id": sql.Identifier(resource.primary_key)}
        self._write = sql.SQL(_WRITE).format(**names).as_string().encode()
        self._lock_free = sql.SQL(_LOCK_FREE).format(**names).as_string().encode()

    def write(self, connection: Connection, events: Sequence[Event]) -> int:
        """At most one event for each product; how many of them are the state of their product now."""
        values = {
            "ids": [event.product_id for event in events],
            # As PostgreSQL writes arrays: nothing here needs quotes, and the driver takes four times as long for lists of objects.
            "prices": _array(str(event.price) for event in events),
            "stocks": _array(str(event.stock) for event in events),
            "moments": _array(event.occurred_at.isoformat() for event in events),
        }
        return connection.execute(self._write, values).rowcount

    def probe(self, connection: Connection) -> None:
        """Write nothing, by the same statement: what fails here is no event's fault."""
        self.write(connection, [])

    def lock_free(self, connection: Connection, ids: list[str]) -> dict[str, bool]:
        """Lock the rows that nobody else has, without waiting: of each that is stored, whether it is locked now."""
        return dict(connection.execute(self._lock_free, {"ids": ids}).fetchall())


def _array(items: Any) -> str:
    return "{" + ",".join(items) + "}"
