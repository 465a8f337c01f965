"""Events and imports of the same products agree on what is newer."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.events.applying import Applier
from penstock.events.model import SETTLED, Entry, Event
from penstock.jobs.model import Empty, ImportOptions
from tests.events.products import event, some_settings
from tests.imports.world import World, books

TIED = pytest.mark.parametrize("times", [1, 2], ids=["by itself", "one of two records"])


@pytest.fixture
def world(database: str, tmp_path: Path) -> Iterator[World]:
    made = World(database, tmp_path)
    yield made
    made.close()


def occur(world: World, *events: Event) -> None:
    applier = Applier(world.registry.get("products"), some_settings())
    with world.database.connect() as connection:
        assert applier.apply(connection, [Entry(each, 0) for each in events]) == [SETTLED] * len(events)
        connection.commit()


def bring(world: World, times: int = 1, options: ImportOptions | None = None, **record: Any) -> tuple[int, int, int, int]:
    return books(world.run("products", [record] * times, options))


def at(moment: datetime, **more: Any) -> Event:
    return event("p", at=(moment - event("p").occurred_at).total_seconds(), **more)


def stored(world: World) -> tuple[Decimal, int, datetime]:
    (row,) = world.rows("SELECT price, stock, updated_at FROM products")
    return row["price"], row["stock"], row["updated_at"]


def moved(world: World) -> datetime:
    return stored(world)[2]


@TIED
def test_an_event_from_before_an_import_does_not_undo_it(world: World, times: int) -> None:
    occur(world, event("p", at=0, price="1.00"))
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert bring(world, times, id="p", price="2.00", stock=5) == (0, times, times - 1, 0)
    assert moved(world) > before
    occur(world, at(before, price="3.00"))
    assert stored(world)[:2] == (Decimal("2.00"), 5)


def test_the_same_for_a_product_that_the_import_makes(world: World) -> None:
    assert bring(world, id="p", price="2.00", stock=5) == (1, 0, 0, 0)
    occur(world, event("p", at=0, price="3.00"))
    assert stored(world)[:2] == (Decimal("2.00"), 5)


def test_an_event_from_after_an_import_wins(world: World) -> None:
    bring(world, id="p", price="2.00", stock=5)
    later = datetime.now(UTC) + timedelta(seconds=1)
    occur(world, at(later, price="3.00", stock=1))
    assert stored(world) == (Decimal("3.00"), 1, later)


@TIED
@pytest.mark.parametrize("empty", Empty)
def test_what_changes_nothing_touches_nothing(world: World, times: int, empty: Empty) -> None:
    given = event("p", at=0, price="1.00", stock=4)
    occur(world, given)
    assert bring(world, times, ImportOptions(empty=empty), id="p", price="1.00", stock=4) == (0, times, times, 0)
    assert moved(world) == given.occurred_at


@TIED
def test_a_record_with_a_moment_of_its_own_sets_it_back_too(world: World, times: int) -> None:
    """So a person mends a state that a wrong clock has made."""
    occur(world, event("p", at=4e9, price="1.00"))
    mended = datetime(2024, 1, 1, tzinfo=UTC)
    assert bring(world, times, id="p", price="2.00", stock=5, updated_at=mended.isoformat()) == (0, times, times - 1, 0)
    assert stored(world) == (Decimal("2.00"), 5, mended)


@TIED
def test_a_products_moment_does_not_go_back_by_itself(world: World, times: int) -> None:
    """The sender's clock may be ahead of ours: what was said to be later stays later."""
    ahead = datetime.now(UTC) + timedelta(hours=1)
    occur(world, at(ahead, price="1.00"))
    bring(world, times, id="p", price="2.00", stock=5)
    assert stored(world) == (Decimal("2.00"), 5, ahead)
    occur(world, at(ahead - timedelta(minutes=1), price="9.00"))
    assert stored(world)[0] == Decimal("2.00")


def test_products_as_they_stand_change_nothing(world: World) -> None:
    """With their moments, as an export has them."""
    occur(world, *(event(f"p{n}", at=n + 0.000001, price=f"{n}.10", stock=n) for n in range(50)))
    rows = world.rows("SELECT id, price::text, stock, updated_at FROM products ORDER BY id")
    records = [row | {"updated_at": row["updated_at"].isoformat()} for row in rows]
    assert books(world.run("products", records)) == (0, 50, 50, 0)
    assert world.rows("SELECT id, price::text, stock, updated_at FROM products ORDER BY id") == rows


def test_an_import_and_events_at_once_leave_each_product_in_one_of_their_states(world: World) -> None:
    """An atomic import has the rows of a whole file; events of others go on meanwhile, and its own come after it."""
    world.execute("INSERT INTO products (id, price, stock, updated_at) SELECT 'p' || n, 1, 1, '2020-01-01Z' FROM generate_series(1, 40) n")
    with world.database.connect() as importing:
        importing.execute("UPDATE products SET price = 2 WHERE id <= 'p2'")
        applier = Applier(world.registry.get("products"), some_settings())
        with world.database.connect() as connection:
            entries = [Entry(event(f"p{n}", price="3.00"), 0) for n in range(1, 41)]
            verdicts = applier.apply(connection, entries)
            connection.commit()
        importing.commit()
        with world.database.connect() as connection:
            late = [entry for entry, verdict in zip(entries, verdicts, strict=True) if verdict != SETTLED]
            assert applier.apply(connection, late) == [SETTLED] * len(late)
            connection.commit()
    assert 0 < len(late) < 40
    assert world.rows("SELECT DISTINCT price::text FROM products") == [{"price": "3.00"}]
