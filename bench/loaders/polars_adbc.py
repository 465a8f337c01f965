"""Polars reads and types the whole file; ADBC copies it in PostgreSQL's binary format, for which an id must be bytes."""

import os
import sys

import polars as pl

moments = pl.col("created_at", "updated_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
users = pl.read_csv(sys.argv[1]).with_columns(pl.col("id").str.replace_all("-", "", literal=True).str.decode("hex"), moments)
users.write_database("users", os.environ["BENCH_URL"], engine="adbc", if_table_exists="append")
