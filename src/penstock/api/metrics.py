"""How events fare, for Prometheus: looked up at most once a second, bounded, and answered with what is known while the database is away."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.api.tally import Tally
from penstock.bootstrap import Application
from penstock.errors import PenstockError
from penstock.events.breaker import circuits
from penstock.events.model import Backlog
from penstock.events.totals import MOST_COUNTED, Totals, read_totals
from penstock.logs import get_logger

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FRESH_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_SHARED, _OWN = "The same from every server of this database.", "Of this process, since it began."

T = TypeVar("T")


class Metrics:
    """One look at a time, however many ask; who asks meanwhile gets the same answer."""

    def __init__(self, application: Application, tally: Tally) -> None:
        self._application = application
        self._tally = tally
        self._totals: Totals | None = None
        self._backlog: Backlog | None = None
        self._looked_at: float | None = None  # when all of it was there last
        self._tried_at: float | None = None
        self._running: asyncio.Task[None] | None = None

    async def text(self) -> bytes:
        """In Prometheus' text format."""
        if self._running is None or self._running.done():
            if self._tried_at is None or time.monotonic() - self._tried_at >= _FRESH_SECONDS:
                self._running = asyncio.create_task(self._look(), name="metrics")
                await asyncio.shield(self._running)
        else:
            await asyncio.shield(self._running)
        registry = CollectorRegistry()
        registry.register(_Now([*self._shared(), *self._own()]))
        return generate_latest(registry)

    async def _look(self) -> None:
        totals, backlog = await asyncio.gather(
            _tried(asyncio.to_thread(self._read_totals), what="totals"), _tried(self._read_backlog(), what="backlog")
        )
        self._tried_at = time.monotonic()
        self._totals, self._backlog = totals or self._totals, backlog or self._backlog
        if totals is not None and backlog is not None:
            self._looked_at = self._tried_at

    def _read_totals(self) -> Totals:
        with self._application.database.connection() as connection:
            return read_totals(connection)

    async def _read_backlog(self) -> Backlog:
        return await self._application.events.log.backlog()

    def _shared(self) -> Iterator[Metric]:
        if (backlog := self._backlog) is not None:
            age = 0.0 if backlog.oldest is None else max(0.0, (datetime.now(UTC) - backlog.oldest).total_seconds())
            yield _gauge("penstock_events_waiting", "Events that are accepted and not applied yet.", backlog.waiting)
            yield _gauge("penstock_events_oldest_age_seconds", "How long the oldest of them has waited; 0 where none waits.", age)
        if (totals := self._totals) is not None:
            yield _counter("penstock_events_applied", "Events that became the state of their product.", totals.applied)
            yield _counter("penstock_events_superseded", "Events whose product had a newer state already.", totals.superseded)
            yield _counter("penstock_events_duplicates", "Events whose event_id had been applied before.", totals.duplicates)
            yield _counter("penstock_events_retried", "Attempts that failed and are made again.", totals.retried)
            yield _counter("penstock_events_dead", "Events that became dead letters.", totals.dead)
            yield _gauge("penstock_dead_letters", f"Dead letters there are now, counted up to {MOST_COUNTED + 1}.", totals.dead_letters)
        if (looked_at := self._looked_at) is not None:
            about = "How old the numbers are that the database and the log know."
            yield GaugeMetricFamily("penstock_events_metrics_age_seconds", f"{about} {_OWN}", value=time.monotonic() - looked_at)

    def _own(self) -> Iterator[Metric]:
        yield CounterMetricFamily("penstock_events_accepted", f"Events that became durable here. {_OWN}", value=self._tally.accepted)
        about = f"Events that were refused, by the code of the error; a request that is refused as a whole counts once. {_OWN}"
        refused = CounterMetricFamily("penstock_events_refused", about, labels=["code"])
        for code, count in sorted(self._tally.refused.items()):
            refused.add_metric([code], count)
        yield refused
        opened = GaugeMetricFamily(
            "penstock_event_circuit_open", f"1 while what is named is left alone because it was away. {_OWN}", labels=["circuit"]
        )
        for name, is_open in sorted(circuits().items()):
            opened.add_metric([name], is_open)
        yield opened


class _Now(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, f"{about} {_SHARED}", value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, f"{about} {_SHARED}", value=value)


async def _tried(look: Coroutine[Any, Any, T], *, what: str) -> T | None:
    """None where it could not be found out in time; that is logged, and answered with what was known before."""
    try:
        return await asyncio.wait_for(look, _LOOK_SECONDS)
    except TimeoutError:
        reason = f"no answer within {_LOOK_SECONDS:g} s"
    except PenstockError as error:
        reason = error.code
    except Exception:  # noqa: BLE001 - the other metrics are answered, whatever is wrong with these
        get_logger(__name__).exception("metrics failed", what=what)
        return None
    get_logger(__name__).warning("metrics are not known", what=what, reason=reason)
    return None
