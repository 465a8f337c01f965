"""Reading records back: one row with its children, as JSON."""

from penstock.records.service import Records

__all__ = ["Records"]
