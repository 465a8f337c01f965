"""The event log in PostgreSQL, part by part: `penstock.events.postgres_log` puts them together."""
