"""psycopg: Python's csv reader, one COPY, a call for every row; the server parses the values."""

import csv
import os
import sys
from pathlib import Path

import psycopg

with (
    Path(sys.argv[1]).open(newline="", encoding="utf-8") as file,
    psycopg.connect(os.environ["BENCH_CONNINFO"]) as connection,
    connection.cursor() as cursor,
    cursor.copy("COPY users FROM STDIN") as copy,
):
    rows = csv.reader(file)
    next(rows)
    for row in rows:
        copy.write_row(row)
