"""Penstock moves data in bulk into and out of PostgreSQL, exactly."""

__version__ = "0.1.0"
