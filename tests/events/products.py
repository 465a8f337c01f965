"""A database with the products' table, and events for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from penstock.bootstrap import prepare
from penstock.database.connect import Database
from penstock.events.applying import Applier
from penstock.events.model import Entry, Event, Unreadable, Verdict
from penstock.events.totals import Totals, read_totals
from penstock.resources.registry import Registry
from penstock.settings import Settings

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)
Row = tuple[Any, ...]


def event(product_id: str, *, at: float = 0, price: str = "1.00", stock: int = 1, event_id: str | None = None) -> Event:
    """`at`: seconds after BEGIN that it occurred."""
    moment = BEGIN + timedelta(seconds=at)
    return Event(
        product_id=product_id, price=Decimal(price), stock=stock, occurred_at=moment, accepted_at=datetime.now(UTC), event_id=event_id
    )


class Shop:
    """Applies events as a log would, each batch in a transaction of its own."""

    def __init__(self, conninfo: str, **settings: Any) -> None:
        self.database = Database(conninfo)
        prepare(self.database, Registry.load())
        self.applier = Applier(Registry.load().get("products"), some_settings(**settings))

    def close(self) -> None:
        self.database.close()

    def apply(self, *contents: Event | Unreadable, attempts: int = 0) -> list[Verdict]:
        with self.connection() as connection:
            return self.applier.apply(connection, [Entry(content, attempts) for content in contents])

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """In a transaction that is committed at the end."""
        connection = self.database.connect()
        try:
            yield connection
            assert connection.info.transaction_status is not psycopg.pq.TransactionStatus.INERROR
            connection.commit()
        finally:
            connection.close()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        with self.connection() as connection:
            return connection.execute(statement, values).fetchall()

    def execute(self, statement: str) -> None:
        with self.connection() as connection:
            connection.execute(statement)

    def products(self) -> dict[str, Row]:
        return {row[0]: row[1:] for row in self.rows("SELECT id, updated_at, price, stock FROM products")}

    def letters(self) -> list[Row]:
        return self.rows("SELECT product_id, code, attempts FROM penstock.dead_letters ORDER BY product_id, code")

    def totals(self) -> Totals:
        with self.connection() as connection:
            return read_totals(connection)


def some_settings(**settings: Any) -> Settings:
    return Settings(_env_file=None).model_copy(update=settings)  # type: ignore[call-arg]  # pydantic-settings' own parameter


def state(of: Event) -> Row:
    return of.occurred_at, of.price, of.stock
