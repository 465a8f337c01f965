"""The checks of a resource's rules over whole columns: `check` takes parsed text and yields typed records and problems."""

from penstock.resources.checks.options import Checked, CheckOptions
from penstock.resources.checks.records import check

__all__ = ["CheckOptions", "Checked", "check"]
