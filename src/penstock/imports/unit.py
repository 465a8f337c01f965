"""A unit of work: the part of a wave that commits together, with its receipt and its rejected records."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.formats.model import RawRecord
from penstock.imports import rejections
from penstock.imports.books import Books
from penstock.imports.ledger import Receipt
from penstock.imports.rejections import Rendered
from penstock.imports.statements import Statements
from penstock.jobs.model import ImportOptions
from penstock.resources.model import Resource, ResourceName
from penstock.resources.problems import Problem

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What is the same for every unit of an attempt."""

    resource: Resource
    targets: Mapping[ResourceName, Resource]  # what its references refer to
    options: ImportOptions
    statements: Statements
    books: Books


@dataclass(slots=True)
class Unit:
    """Counts of one partition, gathered while its records are merged in an open transaction."""

    task: Task
    connection: Connection
    wave: int
    partition: int
    locate: Callable[[list[int]], list[RawRecord]]
    rejected: Rendered  # from the checks; what merging finds comes on top
    now: datetime
    imported: int = 0
    updated: int = 0
    unchanged: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def statements(self) -> Statements:
        return self.task.statements

    def reject(self, problems: Iterable[Problem]) -> None:
        self.problems += problems

    def without_rejected(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self.problems:
            return frame
        return frame.filter(~pl.col("row").is_in(list({p.row for p in self.problems})))

    def finish(self) -> Receipt:
        """Write the receipt and the rejected records, in the transaction of the rows."""
        rejected = self.rejected | rejections.rendered(self.problems, self.task.resource)
        receipt = Receipt(
            wave=self.wave,
            partition=self.partition,
            imported=self.imported,
            updated=self.updated,
            unchanged=self.unchanged,
            rejected=len(rejected),
            summary=rejections.summary(rejected),
        )
        self.task.books.keep(self.connection, receipt, rejected, self.locate(sorted(rejected)))
        reach(CrashPoint.PARTITION_MERGED)
        return receipt
