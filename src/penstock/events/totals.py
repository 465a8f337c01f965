"""What all workers together have done with events, for whoever watches."""

from dataclasses import dataclass
from typing import Any

import psycopg

from penstock.database.queries import load
from penstock.database.sqlstates import translated

MOST_COUNTED = 100_000  # dead letters; to count more of them takes too long for something that is asked every few seconds

_SQL = load("penstock.events", "totals.sql")


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the tables were made, but for `dead_letters`, which are there now."""

    applied: int  # are, or were, the state of their product
    superseded: int  # a greater event of the product was there already
    duplicates: int  # their event_id was applied before
    retried: int  # tries that are to be repeated; an event may have several
    dead: int  # became dead letters
    dead_letters: int  # at most MOST_COUNTED + 1, which means: more


def read_totals(connection: psycopg.Connection[Any]) -> Totals:
    """Raises DatabaseError."""
    with translated("reading the totals of events"):
        row = connection.execute(_SQL["totals"], {"most": MOST_COUNTED + 1}).fetchone()
    assert row is not None
    return Totals(*row)
