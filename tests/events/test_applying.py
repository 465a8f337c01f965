"""Events applied to real products: the greatest of a product's events is its state, and what cannot be applied holds up nobody."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError
from penstock.events.model import SETTLED, Entry, Event, Retry, Settled, Unreadable
from penstock.events.patience import Patience
from tests.events.products import BEGIN, Shop, event, some_settings, state
from tests.support.postgres import TestServer


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    made = Shop(database)
    yield made
    made.close()


@pytest.fixture(scope="module")
def standing(postgres: TestServer) -> Iterator[Shop]:
    """One for many examples, which empty it."""
    with postgres.fresh_database() as conninfo:
        made = Shop(conninfo)
        yield made
        made.close()


EVENTS = st.lists(
    st.builds(
        event,
        st.sampled_from(["a", "b", "B", "é", "日本"]),
        at=st.sampled_from([0, 1, 2, 2.000001]),
        price=st.sampled_from(["0.00", "1.00", "9999999999.99"]),
        stock=st.sampled_from([0, 1, 2147483647]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=25), again=st.integers(0, 25))
def test_the_greatest_event_is_the_state(standing: Shop, events: list[Event], sizes: list[int], again: int) -> None:
    """Whatever the order, the batches and the repeats are."""
    standing.execute("TRUNCATE products; UPDATE penstock.event_counters SET applied = 0, superseded = 0")
    left, size = events + events[:again], cycle(sizes)
    while left:
        batch = left[: next(size)]
        assert standing.apply(*batch) == [SETTLED] * len(batch)
        left = left[len(batch) :]
    expected: dict[str, Any] = {}
    for each in events:
        expected[each.product_id] = max(expected.get(each.product_id, state(each)), state(each))
    assert standing.products() == expected
    totals = standing.totals()
    assert totals.applied + totals.superseded == len(events) + min(again, len(events))
    assert totals.applied >= len(expected)


def test_nothing_is_no_work(shop: Shop) -> None:
    assert shop.apply() == []


def test_an_event_id_is_applied_once(shop: Shop) -> None:
    """In one batch and in later ones, whatever the event says the second time: the first that is applied decides."""
    assert shop.apply(event("a", at=1, event_id="x"), event("b", at=9, event_id="x")) == [SETTLED, SETTLED]
    assert shop.apply(event("c", at=9, event_id="x"), event("d", event_id="y")) == [SETTLED, SETTLED]
    assert set(shop.products()) == {"a", "d"}
    assert shop.totals().duplicates == 2


def test_a_surpassed_event_has_used_its_id(shop: Shop) -> None:
    shop.apply(event("a", at=5))
    shop.apply(event("a", at=1, event_id="x"))
    shop.apply(event("b", event_id="x"))
    assert set(shop.products()) == {"a"}


@pytest.mark.parametrize(
    "rule",
    [
        "ALTER TABLE products ADD CONSTRAINT sane CHECK (stock <> 13)",
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.stock = 13 THEN RAISE 'secret %', NEW.id; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.stock = 13 THEN SELECT nothing FROM nowhere; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
    ],
    ids=["check", "trigger", "broken trigger"],
)
def test_poison_is_a_dead_letter_at_once_and_the_others_land(shop: Shop, rule: str) -> None:
    shop.execute(rule)
    poison = {17, 300, 301, 999}
    batch = [event(f"p{n:04}", stock=13 if n in poison else 1, event_id=f"e{n}") for n in range(1000)]
    assert shop.apply(*batch) == [SETTLED] * 1000
    assert len(shop.products()) == 996
    assert shop.letters() == [(f"p{n:04}", "refused_by_database", 1) for n in sorted(poison)]
    assert shop.totals().dead == 4
    (reasons,) = shop.rows("SELECT string_agg(reason, ' ') FROM penstock.dead_letters")
    assert "SQLSTATE" in reasons[0]
    assert "secret" not in reasons[0]
    assert "p0017" not in reasons[0]


def test_poison_hides_no_sound_event_of_its_product(shop: Shop) -> None:
    shop.execute("ALTER TABLE products ADD CONSTRAINT sane CHECK (stock <> 13)")
    sound = event("a", at=1)
    shop.apply(event("a", at=0), sound, event("a", at=2, stock=13), event("a", at=3, stock=13))
    assert shop.products() == {"a": state(sound)}
    assert shop.letters() == [("a", "refused_by_database", 1)] * 2
    totals = shop.totals()
    assert (totals.applied, totals.superseded, totals.dead) == (1, 1, 2)


def test_a_dead_letter_has_not_used_its_event_id(shop: Shop) -> None:
    shop.execute("ALTER TABLE products ADD CONSTRAINT sane CHECK (stock <> 13)")
    first, repeat = shop.apply(event("a", stock=13, event_id="x"), event("a", stock=1, event_id="x"))
    assert first == SETTLED
    assert isinstance(repeat, Retry), "one whose first did not land is looked at again"
    assert shop.rows("SELECT event_id FROM penstock.event_ids") == []
    shop.apply(event("a", stock=1, event_id="x"))
    assert set(shop.products()) == {"a"}


def test_the_reason_names_the_constraint(shop: Shop) -> None:
    shop.execute("ALTER TABLE products ADD CONSTRAINT sane CHECK (stock <> 13)")
    shop.apply(event("a", stock=13))
    ((reason,),) = shop.rows("SELECT reason FROM penstock.dead_letters")
    assert reason == "PostgreSQL refused it (CheckViolation, SQLSTATE 23514, constraint sane)."


def test_what_is_no_event_is_a_dead_letter(shop: Shop) -> None:
    assert shop.apply(event("a"), Unreadable(b"\x00{", "no JSON"), event("b")) == [SETTLED] * 3
    assert set(shop.products()) == {"a", "b"}
    assert shop.rows("SELECT raw, code, reason FROM penstock.dead_letters") == [(b"\x00{", "invalid_event", "no JSON")]


def test_an_event_that_no_column_can_hold_is_kept_all_the_same(shop: Shop) -> None:
    """Nobody checks what others put into a log."""
    impossible = [event("a\0b"), event("c", stock=2**40), event("d", event_id="e\0f"), event("e", event_id="x" * 300_000)]
    assert shop.apply(*impossible, event("sound")) == [SETTLED] * 5
    assert set(shop.products()) == {"sound"}
    kept = shop.rows("SELECT raw, product_id FROM penstock.dead_letters")
    assert len(kept) == 4
    assert sorted(msgspec.json.decode(raw)["product_id"] if raw else product for raw, product in kept) == ["a\0b", "c", "d", "e"]


def test_nothing_dies_of_a_table_that_refuses_everything(shop: Shop) -> None:
    """A right that was taken away or a column that was renamed is no fault of the events."""
    shop.execute("ALTER TABLE products RENAME COLUMN stock TO amount")
    with shop.database.connect() as connection, pytest.raises(DatabaseRefusedError):
        shop.applier.apply(connection, [Entry(event("a"), 9)])
    assert shop.letters() == []


def test_an_outage_is_nobodys_try(shop: Shop) -> None:
    with shop.database.connect() as connection:
        pid = connection.info.backend_pid
        shop.rows("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(DatabaseUnavailableError):
            shop.applier.apply(connection, [Entry(event("a"), 9)])
    assert shop.letters() == []


def test_a_connection_lost_in_the_middle_is_an_outage(shop: Shop) -> None:
    shop.execute("""
        CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NEW; END $$;
        CREATE TRIGGER leave BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION leave()
    """)
    with shop.database.connect() as connection, pytest.raises(DatabaseUnavailableError):
        shop.applier.apply(connection, [Entry(event("a"), 9), Entry(event("b"), 9)])
    assert shop.letters() == []


def test_a_full_disk_is_an_outage(shop: Shop) -> None:
    shop.execute("""
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION full_disk()
    """)
    with shop.database.connect() as connection, pytest.raises(DatabaseUnavailableError, match="disk"):
        shop.applier.apply(connection, [Entry(event("a"), 9)])


PASSING = """
    CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.stock = 13 THEN RAISE 'clash' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER clash BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION clash()
"""


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57014"])
def test_what_may_pass_is_tried_until_its_tries_are_used_up(database: str, sqlstate: str) -> None:
    shop = Shop(database, max_retry_attempts=3)
    shop.execute(PASSING.format(state=sqlstate))
    for attempts in (0, 1):
        failed, sound = shop.apply(event("bad", stock=13, event_id="x"), event("good", at=attempts), attempts=attempts)
        assert isinstance(failed, Retry)
        assert sound == SETTLED
    assert shop.letters() == []
    assert shop.apply(event("bad", stock=13, event_id="x"), attempts=2) == [SETTLED]
    assert shop.letters() == [("bad", "retries_exhausted", 3)]
    totals = shop.totals()
    assert (totals.retried, totals.dead) == (2, 1)
    assert shop.rows("SELECT event_id FROM penstock.event_ids") == []
    shop.close()


def test_a_clash_that_is_over_soon_is_nobodys_try(shop: Shop) -> None:
    """The batch as a whole is tried again at once."""
    shop.execute("""
        CREATE SEQUENCE tries;
        CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF nextval('tries') = 1 THEN RAISE 'clash' USING ERRCODE = '40P01'; END IF; RETURN NULL; END $$;
        CREATE TRIGGER clash BEFORE INSERT ON products FOR EACH STATEMENT EXECUTE FUNCTION clash()
    """)
    assert shop.apply(event("a"), event("b")) == [SETTLED, SETTLED]
    assert set(shop.products()) == {"a", "b"}


def test_a_locked_product_holds_up_no_other_and_dies_of_no_number_of_tries(shop: Shop) -> None:
    shop.apply(*(event(f"p{n}") for n in range(100)))
    with shop.connection() as other:
        other.execute("UPDATE products SET stock = 7 WHERE id IN ('p3', 'p77')")
        verdicts = shop.apply(*(event(f"p{n}", at=1, event_id=f"e{n}") for n in range(200)), attempts=50)
    assert [n for n, verdict in enumerate(verdicts) if verdict != SETTLED] == [3, 77]
    assert all(isinstance(verdicts[n], Retry) for n in (3, 77))
    moved = [name for name, row in shop.products().items() if row[0] > BEGIN]
    assert len(moved) == 198
    assert len(shop.rows("SELECT FROM penstock.event_ids")) == 198
    assert shop.letters() == []
    assert shop.apply(event("p3", at=1, event_id="e3"), event("p77", at=1, event_id="e77"), attempts=51) == [SETTLED, SETTLED]
    assert all(row[0] > BEGIN for row in shop.products().values())


def test_a_product_that_another_transaction_is_inserting_holds_up_no_other(shop: Shop) -> None:
    with shop.connection() as other:
        other.execute("INSERT INTO products (id, price, stock, updated_at) VALUES ('p5', 1, 1, '2020-01-01Z')")
        verdicts = shop.apply(*(event(f"p{n}") for n in range(40)))
    assert [n for n, verdict in enumerate(verdicts) if verdict != SETTLED] == [5]
    assert len(shop.products()) == 40


def test_a_row_that_nobody_lets_go_of_is_for_a_person_to_look_at(shop: Shop) -> None:
    shop.apply(event("a"))
    old = msgspec.structs.replace(event("a", at=1), accepted_at=datetime.now(UTC) - timedelta(days=2))
    with shop.connection() as other:
        other.execute("SELECT FROM products FOR UPDATE")
        (early,) = shop.apply(old, attempts=0)
        assert isinstance(early, Retry)
        assert shop.apply(old, attempts=50) == [SETTLED]
    assert shop.letters() == [("a", "retries_exhausted", 51)]


def test_an_event_id_that_another_batch_is_about_to_note_holds_up_no_other(shop: Shop) -> None:
    with shop.connection() as other:
        other.execute("INSERT INTO penstock.event_ids VALUES ('e5')")
        verdicts = shop.apply(*(event(f"p{n}", event_id=f"e{n}") for n in range(10)))
    assert [n for n, verdict in enumerate(verdicts) if verdict != SETTLED] == [5]
    assert len(shop.products()) == 9


def test_the_sessions_own_patience_is_given_back(shop: Shop) -> None:
    with shop.connection() as connection:
        before = connection.execute("SHOW lock_timeout").fetchone()
        shop.applier.apply(connection, [Entry(event("a"), 0)])
        assert connection.execute("SHOW lock_timeout").fetchone() == before


def test_batches_of_the_same_products_in_any_order_do_not_end_each_other(shop: Shop) -> None:
    names = [f"p{n}" for n in range(100)]
    start = threading.Barrier(4)

    def apply(worker: int) -> list[Any]:
        order = names if worker % 2 else names[::-1]
        start.wait(10)
        return [
            verdict for turn in range(10) for verdict in shop.apply(*(event(name, at=turn, stock=worker, event_id=name) for name in order))
        ]

    shop.apply(*(event(name, at=-1) for name in names[::2]))
    with ThreadPoolExecutor(4) as pool:
        verdicts = [verdict for result in pool.map(apply, range(4)) for verdict in result]
    assert all(isinstance(verdict, Settled | Retry) for verdict in verdicts)
    assert shop.letters() == []
    again = sum(isinstance(verdict, Retry) for verdict in verdicts)
    totals = shop.totals()
    assert totals.applied + totals.superseded + totals.duplicates == len(verdicts) + 50 - again
    assert len(shop.rows("SELECT FROM penstock.event_ids")) == 100


@pytest.mark.parametrize("missing", ["updated_at", "price", "stock"])
def test_a_stored_row_that_lacks_a_value_is_below_every_event(shop: Shop, missing: str) -> None:
    """A table that stood before Penstock may allow that."""
    shop.execute(f"ALTER TABLE products ALTER {missing} DROP NOT NULL")
    values = {"updated_at": BEGIN, "price": 0, "stock": 0} | {missing: None}
    with shop.connection() as connection:
        connection.execute("INSERT INTO products (id, updated_at, price, stock) VALUES ('a', %(updated_at)s, %(price)s, %(stock)s)", values)
    given = event("a", price="0.00", stock=0)
    shop.apply(given)
    assert shop.products() == {"a": state(given)}


def test_pauses_double_by_chance_up_to_the_longest() -> None:
    patience = Patience(some_settings(initial_retry_delay=1.0, max_retry_delay=8.0))
    for attempts, longest in ((0, 1), (1, 2), (2, 4), (3, 8), (4, 8), (10_000, 8)):
        pauses = [patience.retry(attempts).seconds for _ in range(200)]
        assert all(0 <= pause <= longest for pause in pauses)
        assert max(pauses) > longest / 2


def test_an_event_for_a_connection_that_is_in_no_state_to_work_is_not_settled(shop: Shop) -> None:
    with shop.database.connect() as connection:
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1/0")
        with pytest.raises(DatabaseRefusedError):
            shop.applier.apply(connection, [Entry(event("a"), 0)])
