"""Upkeep is one worker's business at a time: advisory locks, given back with their transaction, so that no death keeps one."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import psycopg

from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.database.sqlstates import translated

SQL = load("penstock.workers", "upkeep.sql")
Connection = psycopg.Connection[Any]


class Turn(IntEnum):
    """Keys of advisory locks: "pens" and a number."""

    SWEEP = 0x70656E7300000001
    HOUSEKEEPING = 0x70656E7300000002
    PACKING = 0x70656E7300000003


@contextmanager
def turn(database: Database, key: Turn) -> Iterator[Connection | None]:
    """A connection in a transaction that has the turn, committed at the end; None while another worker has it. Raises DatabaseError."""
    with database.connect(autocommit=True) as connection, translated("looking after the jobs"), connection.transaction():
        row = connection.execute(SQL["try_turn"], {"turn": key}).fetchone()
        yield connection if row == (True,) else None
