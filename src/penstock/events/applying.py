"""Applying a batch of events to the products, in the transaction that takes them out of the log."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg

from penstock.crashpoints import CrashPoint, reach
from penstock.events.landing import LOCK_TIMEOUT, SQL, Group, Landing, Pieces, halves
from penstock.events.model import SETTLED, Entry, Event, Unreadable, Verdict
from penstock.events.patience import INVALID_EVENT, Death, Failure, Patience, failure_of
from penstock.events.postgres.faults import faults
from penstock.events.products import Products
from penstock.logs import get_logger
from penstock.resources.model import Resource
from penstock.settings import Settings

Connection = psycopg.Connection[Any]

_COUNTS = ("applied", "superseded", "duplicates", "retried", "dead")
_NO_EVENT = dict.fromkeys(("product_id", "price", "stock", "occurred_at", "event_id", "accepted_at"))


class Applier:
    """May be used by several threads, each with a connection of its own."""

    def __init__(self, products: Resource, settings: Settings) -> None:
        self._products = Products(products)
        self._patience = Patience(settings)

    def apply(self, connection: Connection, entries: Sequence[Entry]) -> list[Verdict]:
        """As `penstock.events.log.Handle` has it. Dead letters are written and the counters kept in the same transaction.

        Raises DatabaseUnavailableError; DatabaseRefusedError where the tables cannot be written to, whatever the events are.
        """
        if not entries:
            return []
        with faults("events were applied"):
            return _Batch(connection, entries, self._products, self._patience).apply()


@dataclass(slots=True)
class _Batch:
    connection: Connection
    entries: Sequence[Entry]
    products: Products
    patience: Patience
    verdicts: list[Verdict] = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    deaths: dict[int, Death] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)  # event_ids that are this batch's own, and where they stand in it
    repeats: dict[int, int] = field(default_factory=dict)  # entry -> the earlier one with the same event_id
    failed: dict[int, psycopg.Error] = field(default_factory=dict)

    def apply(self) -> list[Verdict]:
        row = self.connection.execute(SQL["enter"], {"lock_timeout": LOCK_TIMEOUT}).fetchone()
        assert row is not None
        self.verdicts = [SETTLED] * len(self.entries)
        pieces = Pieces(self.connection)
        landing = Landing(pieces, self.products, [entry.content for entry in self.entries])  # type: ignore[misc]  # those that are none are left out
        landing.land(self._groups(self._fresh(pieces)))
        self.failed |= landing.failed
        self.counts.update(applied=landing.applied, superseded=landing.superseded)
        if self.failed:
            self._forget_failed()
        self._settle_repeats()
        self._bury()
        values = {name: self.counts[name] for name in _COUNTS}
        self.connection.execute(SQL["leave"], {"lock_timeout": row[0], **values})
        reach(CrashPoint.EVENTS_APPLIED)
        return self.verdicts

    def _fresh(self, pieces: Pieces) -> list[int]:
        """Where the events stand that have not been applied before, as far as their event_id tells."""
        fresh: list[int] = []
        firsts: dict[str, int] = {}
        for position, entry in enumerate(self.entries):
            content = entry.content
            if isinstance(content, Unreadable):
                self.deaths[position] = Death(INVALID_EVENT, content.reason)
            elif content.event_id is None:
                fresh.append(position)
            elif (first := firsts.setdefault(content.event_id, position)) != position:
                self.repeats[position] = first
        if firsts:
            self._note(pieces, firsts)
            fresh += self.noted.values()
        return fresh

    def _note(self, pieces: Pieces, firsts: Mapping[str, int]) -> None:
        """Before any product, in every batch: so nobody who holds products waits for an event_id."""

        def note(ids: list[str]) -> None:
            found = [row[0] for row in self.connection.execute(SQL["note_ids"], {"ids": ids})]
            self.noted.update((event_id, firsts[event_id]) for event_id in found)
            self.counts["duplicates"] += len(ids) - len(found)

        def apart(ids: list[str], error: psycopg.Error, failure: Failure) -> list[list[str]]:
            if pieces.may_halve(ids, failure):
                return halves(ids)
            self.failed.update((firsts[event_id], error) for event_id in ids)
            return []

        pieces.work(sorted(firsts), note, apart)

    def _groups(self, positions: list[int]) -> list[Group]:
        """By product and in the order of their ids."""
        by_product: dict[str, Group] = {}
        for position in positions:
            by_product.setdefault(self._event(position).product_id, []).append(position)
        for group in by_product.values():
            if len(group) > 1:
                group.sort(key=self._greatness)
        return [by_product[product_id] for product_id in sorted(by_product)]

    def _greatness(self, position: int) -> tuple[Any, ...]:
        event = self._event(position)
        return event.occurred_at, event.price, event.stock

    def _event(self, position: int) -> Event:
        content = self.entries[position].content
        assert isinstance(content, Event)
        return content

    def _forget_failed(self) -> None:
        for position, error in self.failed.items():
            fate = self.patience.fate(self.entries[position], error)
            if isinstance(fate, Death):
                self.deaths[position] = fate
            else:
                self.verdicts[position] = fate
                self.counts["retried"] += 1
        noted = [event_id for event_id, position in self.noted.items() if position in self.failed]
        if noted:
            self.connection.execute(SQL["forget_ids"], {"ids": noted})

    def _settle_repeats(self) -> None:
        """One whose first did not land is looked at again, as it would be in a batch of its own."""
        for position, first in self.repeats.items():
            if first in self.failed:
                self.verdicts[position] = self.patience.retry(self.entries[position].attempts)
                self.counts["retried"] += 1
            else:
                self.counts["duplicates"] += 1

    def _bury(self) -> None:
        if not self.deaths:
            return
        letters = [self._letter(position, death) for position, death in sorted(self.deaths.items())]
        try:
            self._write_letters(letters)
        except psycopg.Error as error:
            if failure_of(error) is not Failure.FOR_GOOD:
                raise
            for letter in letters:
                self._bury_one(letter)
        self.counts["dead"] += len(letters)
        codes = Counter(death.code for death in self.deaths.values())
        get_logger(__name__).warning("events could not be applied and are dead letters now", events=len(letters), codes=dict(codes))

    def _bury_one(self, letter: dict[str, Any]) -> None:
        """An event that no column can hold is kept as what a log would hold of it."""
        try:
            self._write_letters([letter])
        except psycopg.Error as error:
            if letter["raw"] is not None or failure_of(error) is not Failure.FOR_GOOD:
                raise
            event = {name: letter[name] for name in _NO_EVENT}
            self._write_letters([{**letter, **_NO_EVENT, "raw": msgspec.json.encode(event)}])

    def _write_letters(self, letters: list[dict[str, Any]]) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(SQL["bury"], letters)

    def _letter(self, position: int, death: Death) -> dict[str, Any]:
        entry = self.entries[position]
        content = entry.content
        kept: dict[str, Any] = {**_NO_EVENT, "raw": content.raw} if isinstance(content, Unreadable) else _columns(content)
        return {**kept, "code": death.code, "reason": death.reason, "attempts": entry.attempts + 1}


def _columns(event: Event) -> dict[str, Any]:
    return {**{name: getattr(event, name) for name in _NO_EVENT}, "raw": None}
