"""The ledger: which attempt may write, what each wave is, what has landed. DESIGN: receipts commit in the transaction of their rows.

Every method works in the transaction of the connection it is given and commits nothing itself.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from penstock.database.jsonb import jsonb
from penstock.database.queries import load
from penstock.formats.model import Position
from penstock.lifecycle.attempt import Attempt

Connection = psycopg.Connection[Any]

SQL = load("penstock.imports", "ledger.sql")


class WavePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a wave is: whole records from `start` to `end`, dealt to partitions by number, the tied ones to a partition of their own."""

    wave: int
    start: Position
    end: Position
    partitions: int
    tied: frozenset[int] = frozenset()
    processed_bytes: int = 0

    @property
    def tied_partition(self) -> int:
        return self.partitions


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """records = imported + updated + rejected; `summary` is a list of `SummaryLine` as JSON."""

    wave: int
    partition: int
    imported: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    summary: list[dict[str, Any]] = msgspec.field(default_factory=list)

    @property
    def records(self) -> int:
        return self.imported + self.updated + self.rejected


class Ledger(Attempt):
    """One job's books, as one attempt may write them."""

    def plan(self, connection: Connection, plan: WavePlan) -> None:
        connection.execute(SQL["plan_wave"], {"job_id": self.job_id, **_plan_row(plan)})

    def last_wave(self, connection: Connection) -> WavePlan | None:
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(SQL["last_wave"], {"job_id": self.job_id}).fetchone()
        return None if row is None else _plan_of(row)

    def landed(self, connection: Connection, wave: int) -> frozenset[int]:
        """Numbers of the wave's partitions that have a receipt."""
        rows = connection.execute(SQL["receipts_of_wave"], {"job_id": self.job_id, "wave": wave})
        return frozenset(row[0] for row in rows)

    def write_receipt(self, connection: Connection, receipt: Receipt) -> None:
        values = msgspec.structs.asdict(receipt) | {
            "job_id": self.job_id,
            "epoch": self.epoch,
            "records": receipt.records,
            "summary": jsonb(receipt.summary),
        }
        connection.execute(SQL["write_receipt"], values)

    def totals(self, connection: Connection) -> dict[str, int]:
        with connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(SQL["totals"], {"job_id": self.job_id}).fetchone()
        assert row is not None
        return row

    def summaries(self, connection: Connection) -> list[list[dict[str, Any]]]:
        return [row[0] for row in connection.execute(SQL["summaries"], {"job_id": self.job_id})]

    def report_progress(
        self,
        connection: Connection,
        totals: Mapping[str, int],
        *,
        processed_bytes: int,
        summary: list[dict[str, Any]],
        warnings: list[str],
    ) -> bool:
        """Whether somebody has asked to cancel the job."""
        values = {"job_id": self.job_id, "epoch": self.epoch, "processed_bytes": processed_bytes, **totals}
        row = connection.execute(SQL["report_progress"], values | {"error_summary": jsonb(summary), "warnings": jsonb(warnings)}).fetchone()
        return bool(row and row[0])

    def forget_wave(self, connection: Connection, plan: WavePlan) -> None:
        """Take back a wave that was refused as a whole, so that this attempt does it anew."""
        values = {"job_id": self.job_id, "wave": plan.wave, "start_row": plan.start.row, "end_row": plan.end.row}
        connection.execute(SQL["forget_wave"], values)
        connection.execute(SQL["forget_rejected_of_wave"], values)

    def void_receipts(self, connection: Connection) -> None:
        """What an atomic import that failed would have landed did not land; its rejected records stay on file."""
        connection.execute(SQL["void_receipts"], {"job_id": self.job_id})

    def forget_all(self, connection: Connection) -> None:
        connection.execute(SQL["forget_work"], {"job_id": self.job_id})
        connection.execute(SQL["forget_rejected"], {"job_id": self.job_id})


def _plan_row(plan: WavePlan) -> dict[str, Any]:
    return {
        "wave": plan.wave,
        "start_offset": plan.start.offset,
        "start_row": plan.start.row,
        "start_line": plan.start.line,
        "end_offset": plan.end.offset,
        "end_row": plan.end.row,
        "end_line": plan.end.line,
        "partitions": plan.partitions,
        "tied": sorted(plan.tied),
        "processed_bytes": plan.processed_bytes,
    }


def _plan_of(row: Mapping[str, Any]) -> WavePlan:
    return WavePlan(
        wave=row["wave"],
        start=Position(offset=row["start_offset"], row=row["start_row"], line=row["start_line"]),
        end=Position(offset=row["end_offset"], row=row["end_row"], line=row["end_line"]),
        partitions=row["partitions"],
        tied=frozenset(row["tied"]),
        processed_bytes=row["processed_bytes"],
    )
