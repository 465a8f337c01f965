"""The commands. They ask the services and show the answers; SQL and rules live below.

What is costly to import (Polars, psycopg, pydantic) is imported inside the functions that need it: `penstock --help` must not wait for it.
"""
