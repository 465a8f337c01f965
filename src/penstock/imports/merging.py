"""Merging a wave: its plan first, then its free partitions side by side, then its tied records; each unit commits with its receipt."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import polars as pl
import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.database.sqlstates import is_unique_violation
from penstock.imports import free, ties
from penstock.imports.free import Resolved
from penstock.imports.lanes import Lane
from penstock.imports.ledger import Ledger, Receipt, WavePlan
from penstock.imports.roads import Road, RoadChooser
from penstock.imports.tied import merge_tied
from penstock.imports.unit import Task, Unit
from penstock.imports.waves import Wave
from penstock.jobs.model import Mode
from penstock.logs import get_logger

Connection = psycopg.Connection[Any]
Opened = tuple[Generator[Resolved, frozenset[int], Receipt], Resolved]
A = TypeVar("A")
B = TypeVar("B")

REFUSED = -1  # the partition of a receipt for a wave that was not merged: it holds its bad records only


class WaveMerger:
    """Merges waves one after the other. `lane` makes a connection for a partition; the ledger has one of its own.

    `permit` is held while the database works on a partition, not while it waits between two tries.
    """

    def __init__(
        self,
        task: Task,
        ledger: Ledger,
        ledger_lane: Lane,
        lane: Callable[[], Lane],
        *,
        partitions: int,
        permit: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._permit = permit
        self._task = task
        self._ledger = ledger
        self._ledger_lane = ledger_lane
        self._make_lane = lane
        self._lanes: list[Lane] = []
        self._partitions = partitions
        self._chooser = RoadChooser(task.resource, task.options.mode)
        self._pool = ThreadPoolExecutor(partitions, thread_name_prefix="penstock-merge")

    def close(self) -> None:
        self._pool.shutdown()
        for lane in self._lanes:
            lane.close()

    def refuse(self, wave: Wave) -> Receipt:
        """Report the wave's bad records and merge nothing of it."""
        return self._ledger_lane.persist(lambda: self._refused(wave))

    def merge(self, wave: Wave) -> list[Receipt]:
        """Everything of the wave that has no receipt yet. Raises LeaseLostError, DatabaseError."""
        plan = wave.plan
        landed: frozenset[int] = frozenset()
        if plan is None:
            plan = self._new_plan(wave)
            self._commit_plan(plan)
        else:
            landed = self._ledger_lane.persist(lambda: self._landed(wave.number))
        reach(CrashPoint.WAVE_PLANNED)
        missing = [partition for partition in range(plan.partitions) if partition not in landed]
        plan, receipts = self._merge_free(wave, plan, missing)
        if plan.tied and plan.tied_partition not in landed:
            receipts.append(self._lane(0).persist(self._permitted(lambda: self._tied(wave, plan))))
        reach(CrashPoint.WAVE_DONE)
        return receipts

    def _new_plan(self, wave: Wave) -> WavePlan:
        return WavePlan(
            wave=wave.number,
            start=wave.start,
            end=wave.end,
            partitions=self._partitions,
            tied=wave.tied,
            processed_bytes=wave.processed_bytes,
        )

    def _commit_plan(self, plan: WavePlan) -> None:
        def commit() -> None:
            with self._ledger_lane.transaction() as (connection, _):
                self._ledger.plan(connection, plan)

        self._ledger_lane.persist(commit)

    def _landed(self, wave: int) -> frozenset[int]:
        with self._ledger_lane.transaction() as (connection, _):
            return self._ledger.landed(connection, wave)

    def _lane(self, partition: int) -> Lane:
        while len(self._lanes) <= partition:
            self._lanes.append(self._make_lane())
        return self._lanes[partition]

    def _merge_free(self, wave: Wave, plan: WavePlan, missing: list[int]) -> tuple[WavePlan, list[Receipt]]:
        """The plan may come back with more tied records: those that stored rows tie are known only once they are resolved."""
        for partition in missing:
            self._lane(partition)
        receipts: list[Receipt] = []
        road = self._choose(wave) if missing else Road.RESOLVE
        get_logger(__name__).debug("wave planned", wave=wave.number, road=road.value, tied=len(plan.tied), partitions=missing)
        if road is Road.STRAIGHT:
            results = self._side_by_side(lambda p: self._lane(p).persist(self._permitted(lambda: self._straight(wave, plan, p))), missing)
            receipts += [result for result in results if result is not None]
            missing = [partition for partition, result in zip(missing, results, strict=True) if result is None]
            self._chooser.went_straight(met_stored_rows=bool(missing))
        if missing:
            plan, resolved = self._merge_resolved(wave, plan, missing, compare=road is Road.COMPARE)
            receipts += resolved
        return plan, receipts

    def _choose(self, wave: Wave) -> Road:
        if self._chooser.trusts_straight(wave.good):
            return Road.STRAIGHT

        def choose() -> Road:
            with self._lane(0).transaction() as (connection, _):
                return self._chooser.choose(connection, wave.good)

        return self._lane(0).persist(choose)

    def _straight(self, wave: Wave, plan: WavePlan, partition: int) -> Receipt | None:
        """None: some record is stored already, so the partition must be resolved; nothing of it was kept."""
        try:
            with self._lane(partition).transaction() as (connection, now):
                unit = self._unit(connection, now, wave, plan, partition)
                free.go_straight(unit, _free_of(wave, plan, partition))
                receipt = unit.finish()
        except psycopg.Error as error:
            if is_unique_violation(error) and error.diag.schema_name != "penstock":
                return None
            raise
        reach(CrashPoint.PARTITION_COMMITTED)
        return receipt

    def _merge_resolved(self, wave: Wave, plan: WavePlan, missing: list[int], *, compare: bool) -> tuple[WavePlan, list[Receipt]]:
        """Resolve all partitions, see what stored rows tie, then merge the rest. The transactions stay open in between."""
        opened: dict[int, Opened] = {}
        try:
            self._side_by_side(lambda p: opened.update({p: self._open(wave, plan, p, compare=compare)}), missing)
            more = self._tied_by_renames(wave, plan, missing, [resolved for _, resolved in opened.values()])
            if more:
                plan = msgspec.structs.replace(plan, tied=plan.tied | more)
                self._commit_plan(plan)
            finish = self._finisher(wave, plan, opened, more, compare=compare)
            return plan, self._side_by_side(finish, missing)
        finally:
            for generator, _ in opened.values():
                generator.close()

    def _tied_by_renames(self, wave: Wave, plan: WavePlan, missing: list[int], resolved: list[Resolved]) -> frozenset[int]:
        """Free records that turn out to be tied: by what one of them renames, or one of those that are tied already."""
        if self._task.options.mode is Mode.INSERT or self._task.resource.natural_key is None:
            return frozenset()
        tied = wave.good.filter(pl.col("row").is_in(list(plan.tied)))

        def stored_keys() -> pl.DataFrame:
            # On a lane of the data: in an import of one transaction no other connection sees what earlier waves did.
            with self._lane(missing[0]).transaction() as (connection, _):
                return ties.stored_keys(connection, self._task.resource, tied)

        known = self._lane(missing[0]).persist(stored_keys)
        names = [pl.concat([r.frame.select("row", "key") for r in resolved] + [tied.select("row", "key")])]
        names += [tied.select("row", key=r.alias) for r in ties.own_references(self._task.resource) if r.alias]
        found = pl.concat([r.found.select("row", ties.BY_ID, ties.OLD_KEY) for r in resolved] + [known])
        return ties.by_renames(pl.concat(names), found) - plan.tied

    def _open(self, wave: Wave, plan: WavePlan, partition: int, *, compare: bool) -> Opened:
        def start() -> Opened:
            generator = self._resolving(wave, plan, partition, compare=compare)
            return generator, next(generator)

        return self._lane(partition).persist(self._permitted(start))

    def _finisher(
        self, wave: Wave, plan: WavePlan, opened: dict[int, Opened], more: frozenset[int], *, compare: bool
    ) -> Callable[[int], Receipt]:
        def finish(partition: int) -> Receipt:
            first = [opened[partition][0]]

            def work() -> Receipt:
                if first:
                    return _sent(first.pop(), more)
                generator = self._resolving(wave, plan, partition, compare=compare)
                next(generator)
                return _sent(generator, frozenset())

            return self._lane(partition).persist(self._permitted(work))

        return finish

    def _resolving(self, wave: Wave, plan: WavePlan, partition: int, *, compare: bool) -> Generator[Resolved, frozenset[int], Receipt]:
        with self._lane(partition).transaction() as (connection, now):
            unit = self._unit(connection, now, wave, plan, partition)
            yield from free.merge(unit, _free_of(wave, plan, partition), compare=compare)
            receipt = unit.finish()
        reach(CrashPoint.PARTITION_COMMITTED)
        return receipt

    def _tied(self, wave: Wave, plan: WavePlan) -> Receipt:
        with self._lane(0).transaction() as (connection, now):
            unit = Unit(self._task, connection, wave.number, plan.tied_partition, wave.locate, {}, now)
            merge_tied(unit, wave.good.filter(pl.col("row").is_in(list(plan.tied))))
            receipt = unit.finish()
        reach(CrashPoint.PARTITION_COMMITTED)
        return receipt

    def _refused(self, wave: Wave) -> Receipt:
        # Plan and receipt together: a plan without receipts is a wave to merge.
        with self._ledger_lane.transaction() as (connection, now):
            self._ledger.plan(connection, self._new_plan(wave))
            return Unit(self._task, connection, wave.number, REFUSED, wave.locate, wave.bad, now).finish()

    def _unit(self, connection: Connection, now: datetime, wave: Wave, plan: WavePlan, partition: int) -> Unit:
        return Unit(self._task, connection, wave.number, partition, wave.locate, wave.bad_of(partition, plan.partitions), now)

    def _permitted(self, work: Callable[[], B]) -> Callable[[], B]:
        def permitted() -> B:
            with self._permit():
                return work()

        return permitted

    def _side_by_side(self, work: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """All of them, each in a thread; the first error is raised when all have ended."""
        futures = [self._pool.submit(work, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]


def _free_of(wave: Wave, plan: WavePlan, partition: int) -> pl.DataFrame:
    """Records are dealt by their number: free of each other, any deal is right, and this one is the same for every attempt."""
    frame = wave.good.filter(pl.col("row") % plan.partitions == partition)
    return frame.filter(~pl.col("row").is_in(list(plan.tied))) if plan.tied else frame


def _sent(generator: Generator[Resolved, frozenset[int], Receipt], tied: frozenset[int]) -> Receipt:
    try:
        generator.send(tied)
    except StopIteration as end:
        receipt: Receipt = end.value
        return receipt
    raise AssertionError("a partition resolves its records once")
