"""Frames into PostgreSQL by COPY BINARY, in the transaction of the connection that is given."""

import os
import time
from typing import Any

import polars as pl
import psycopg
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql

# pgpq holds the GIL while it encodes a batch (0.18 s per million rows): small batches let the other threads in between.
_BATCH_ROWS = 16_384


def copy_frame(cursor: psycopg.Cursor[Any], target: sql.Composable, columns: list[str], frame: pl.DataFrame) -> None:
    """Copy `columns` of the frame into the columns of the same names of `target`."""
    if frame.is_empty():
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(target, sql.SQL(", ").join(map(sql.Identifier, columns)))
    table = frame.select(columns).to_arrow()
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    with cursor.copy(statement) as copy:
        copy.write(encoder.write_header())
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def new_ids(count: int) -> pl.Series:
    """Fresh UUIDs of version 7 as Binary of 16 bytes: their order in time keeps the index's growth in one place."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    random = os.urandom(10 * count)
    return pl.Series(
        [
            stamp + bytes([0x70 | (r[0] & 0x0F), r[1], 0x80 | (r[2] & 0x3F)]) + r[3:]
            for r in (random[i : i + 10] for i in range(0, 10 * count, 10))
        ],
        dtype=pl.Binary,
    )
