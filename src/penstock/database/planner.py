"""Where we know better than the planner: it has no statistics of staged records and of arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


@contextmanager
def index_lookups(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Inside a transaction: joins go by index, record by record, instead of reading a whole table into a hash.

    A million look-ups took 3.2 s so, and 4.9 s with the planner's choice; on a table much larger than the wave the gap grows.
    """
    connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    yield
    # Not in a `finally`: after an error the transaction is lost, and the setting with it.
    connection.execute("SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on")
