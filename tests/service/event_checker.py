"""What must be true of the products and the counters once a service has come to rest, whatever it went through."""

from collections import defaultdict
from collections.abc import Iterable

import psycopg

from tests.service.event_senders import Book, Sent, State
from tests.support.waiting import until

_PRODUCTS = "SELECT id, updated_at, price, stock FROM products"
_COUNTERS = """
SELECT sum(waiting)::bigint, sum(applied)::bigint, sum(superseded)::bigint, sum(duplicates)::bigint, sum(dead)::bigint
FROM penstock.event_counters
"""


class Checker:
    """`exact`: the log delivers everything once, as the counters see it; NATS may deliver again what a dead process has applied."""

    def __init__(self, conninfo: str, *, exact: bool) -> None:
        self._conninfo = conninfo
        self._exact = exact

    def assert_right(self, book: Book, seconds: float = 60) -> None:
        """In time; everything that is wrong by then is told."""
        until(lambda: not self.faults(book), seconds)
        self.assert_right_now(book)

    def assert_right_now(self, book: Book) -> None:
        assert self.faults(book) == []
        assert book.wrong == []

    def faults(self, book: Book) -> list[str]:
        """Ten at most of each kind."""
        with psycopg.connect(self._conninfo, application_name="checker") as connection:
            stored: dict[str, State] = {row[0]: row[1:] for row in connection.execute(_PRODUCTS)}
            counters = connection.execute(_COUNTERS).fetchone()
        assert counters is not None
        return [*_wrong_states(stored, book)][:10] + self._wrong_counters(counters, book)

    def _wrong_counters(self, counters: Iterable[int], book: Book) -> list[str]:
        """Every event is counted as exactly one of these, as often as it was accepted. What had no answer may be stored or not."""
        waiting, *ends = counters
        total, least = waiting + sum(ends), len(book.accepted)
        most = least + len(book.unknown) if self._exact else total
        faults = [f"{waiting} still wait"] if waiting else []
        if not least <= total <= most:
            faults.append(f"{total} counted {(waiting, *ends)}, of {least} to {most}")
        return faults


def _wrong_states(stored: dict[str, State], book: Book) -> Iterable[str]:
    """A product has the greatest of its accepted events, or a greater one of those that may be stored."""
    sure, perhaps = _by_product([*book.accepted, *book.duplicates]), _by_product(book.unknown)
    for product_id in sorted(sure.keys() | perhaps.keys() | stored.keys()):
        has, must = stored.get(product_id), max(sure.get(product_id, ()), default=None)
        allowed = {state for state in perhaps.get(product_id, ()) if must is None or state > must}
        if has != must and has not in allowed:
            yield f"{product_id} is {has}, not {must} nor one of {len(allowed)}"


def _by_product(sent: Iterable[Sent]) -> dict[str, set[State]]:
    found: dict[str, set[State]] = defaultdict(set)
    for event in sent:
        found[event.product_id].add(event.state)
    return found
