"""The statements that every kind of job shares."""

from penstock.database.queries import load

SQL = load("penstock.lifecycle", "jobs.sql")
