"""pandas: read_csv and to_sql, through SQLAlchemy and psycopg."""

import os
import sys

import pandas as pd  # type: ignore[import-untyped]  # it and its types stand in the virtualenv of the peers only, if at all
import psycopg
from sqlalchemy import Uuid, create_engine  # type: ignore[import-not-found]  # the same

engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["BENCH_CONNINFO"]))
users = pd.read_csv(sys.argv[1], parse_dates=["created_at", "updated_at"])
users.to_sql("users", engine, if_exists="append", index=False, chunksize=10_000, dtype={"id": Uuid(as_uuid=False)})
