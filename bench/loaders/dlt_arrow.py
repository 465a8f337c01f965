"""dlt: Arrow batches in, CSV files between, COPY at the end; the quickest of its ways that fills a uuid column."""

import getpass
import os
import sys
from urllib.parse import urlsplit

import dlt  # type: ignore[import-not-found]  # stands in the virtualenv of the peers only
import pyarrow.csv


def complete(url: str) -> str:
    """With the host and password that dlt insists on. Of two hosts libpq takes the query's: the socket's folder, where one is used."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2] or "localhost"
    return parts._replace(netloc=f"{parts.username or getpass.getuser()}:{parts.password or 'none'}@{where}").geturl()


users = dlt.resource(pyarrow.csv.open_csv(sys.argv[1]), name="users", write_disposition="append")
target = dlt.destinations.postgres(complete(os.environ["BENCH_URL"]))
# In `public` stands the table already, with its keys: dlt then makes only its own.
pipeline = dlt.pipeline("bench", pipelines_dir=".", destination=target, dataset_name="public")
pipeline.run(users, loader_file_format="csv")
