"""Where a unit's receipt and its rejected records are written: with its rows, or apart from them where the rows may not stay."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import psycopg

from penstock.formats.model import RawRecord
from penstock.imports import rejections
from penstock.imports.ledger import Ledger, Receipt
from penstock.imports.rejections import Rendered

Connection = psycopg.Connection[Any]
Apart = Callable[[Callable[[Connection], None]], None]  # runs its argument in a transaction of its own, behind the fence


class Books(Protocol):
    def keep(self, connection: Connection, receipt: Receipt, rejected: Rendered, raw: list[RawRecord]) -> None:
        """Write the receipt; `raw` holds the rejected records in ascending order. `connection` is in the transaction of the unit's rows."""


class TogetherBooks:
    """The rule: rows, rejected records and receipt commit together."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def keep(self, connection: Connection, receipt: Receipt, rejected: Rendered, raw: list[RawRecord]) -> None:
        if rejected:
            with connection.cursor() as cursor:
                rejections.write(cursor, self._ledger.job_id, rejected, raw)
        self._ledger.write_receipt(connection, receipt)


class DryRunBooks:
    """The rows will be rolled back; the books tell what would have been."""

    def __init__(self, ledger: Ledger, apart: Apart) -> None:
        self._together = TogetherBooks(ledger)
        self._apart = apart

    def keep(self, connection: Connection, receipt: Receipt, rejected: Rendered, raw: list[RawRecord]) -> None:  # noqa: ARG002  # the protocol's
        self._apart(lambda own: self._together.keep(own, receipt, rejected, raw))


class AtomicBooks:
    """Receipts share the fate of the rows, all or none. The first rejected record makes it none; what stays then is the report."""

    def __init__(self, ledger: Ledger, apart: Apart) -> None:
        self._together = TogetherBooks(ledger)
        self._apart = apart
        self.doomed = False

    def keep(self, connection: Connection, receipt: Receipt, rejected: Rendered, raw: list[RawRecord]) -> None:
        if not rejected:
            self._together.keep(connection, receipt, rejected, raw)
            return
        self.doomed = True
        report = msgspec.structs.replace(receipt, imported=0, updated=0, unchanged=0)
        self._apart(lambda own: self._together.keep(own, report, rejected, raw))
