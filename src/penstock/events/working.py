"""Whoever applies the events that wait: takes them from the log batch by batch, through every outage, and empties it before it stops."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from penstock.errors import CircuitOpenError, DatabaseUnavailableError, EventLogUnavailableError, HandedOverError
from penstock.events.breaker import Breaker
from penstock.events.service import Events
from penstock.logs import get_logger
from penstock.settings import Settings

_LEAST_REST_SECONDS = 0.05  # where nothing waits; then twice as long each time
_MOST_REST_SECONDS = (0.5, 2.0)  # of the one that looks for all; of the others, in case it is held up
_OUTAGE_SECONDS = 0.2  # between two tries while the circuit is still closed
_DEFECT_SECONDS = (1.0, 30.0)  # the first pause and the longest: what does not go away must not fill the log
_LAST_LOOKS = 3  # in a row that find nothing, where others should still have been there: they may have been held up
_LAST_WAIT_SECONDS = 0.1  # for each of them
_STOP_SECONDS = 0.5  # for batches under way when the time is up, and for the last look at what waits


@dataclass(slots=True)
class _Drain:
    """The last round. What waited when it began is counted down: what comes later, from other servers, is for others."""

    begun: bool = False
    waited: int | None = None  # None: nobody could say
    taken: int = 0

    def over(self, delivered: int, idle: int) -> bool:
        """After a look that began in this round; `idle` in a row found nothing."""
        self.taken += delivered
        enough = self.waited is not None and self.taken >= self.waited
        return enough or idle >= (1 if self.waited is None else _LAST_LOOKS)


class EventWorker:
    """Applies events until told to stop, `settings.workers` batches at once. To be run once, on the event loop that `events` is used on."""

    def __init__(self, events: Events, settings: Settings) -> None:
        self._events = events
        self._settings = settings
        self._breaker = Breaker(
            "applying events", threshold=settings.circuit_breaker_threshold, timeout_seconds=settings.circuit_breaker_timeout
        )
        self._wait_seconds = settings.batch_flush_interval
        self._drain = _Drain()
        self._over = asyncio.Event()  # there is no more time
        self._full = asyncio.Event()  # a batch was: there is work for more than one

    async def run(self, stop: asyncio.Event, *, silent: asyncio.Event | None = None, drain_seconds: float) -> None:
        """Until `stop` is set, and then until all is applied that waits and is due, `drain_seconds` at most.

        `silent` is set once this process accepts no more events, which may be later than `stop`: only then is it known what waits.
        Outages are waited out and defects are tried again; neither is raised.
        """
        self._wait_seconds = min(self._wait_seconds, drain_seconds / 4)  # a batch that waits to be filled is under way when we are to stop
        loops = [asyncio.create_task(self._loop(place), name=f"penstock-events-{place}") for place in range(self._settings.workers)]
        try:
            await _set_or_ended(stop, loops, None)
            deadline = _now() + drain_seconds
            await _set_or_ended(silent or stop, loops, drain_seconds)
            await self._empty(loops, max(0.0, deadline - _now()))
        finally:
            for task in loops:
                task.cancel()
            await asyncio.wait(loops, timeout=_STOP_SECONDS)

    async def _empty(self, loops: list[asyncio.Task[None]], seconds: float) -> None:
        deadline = _now() + seconds
        self._drain.waited = await self._waiting(seconds / 4)
        self._drain.begun = True
        self._wait_seconds = min(self._wait_seconds, _LAST_WAIT_SECONDS)
        self._full.set()
        self._events.came.set()
        await asyncio.wait(loops, timeout=max(0.0, deadline - _now()))
        self._over.set()
        await asyncio.wait(loops, timeout=_STOP_SECONDS)
        left = await self._waiting(_STOP_SECONDS)
        log, facts = get_logger(__name__), {"taken": self._drain.taken, "waiting": "unknown" if left is None else left}
        if left != 0:
            log.warning("events could not be drained; another worker applies what waits", seconds=round(seconds, 1), **facts)
        else:
            log.info("events drained", **facts)

    async def _waiting(self, seconds: float) -> int | None:
        """None where the log cannot say in time."""
        try:
            return (await asyncio.wait_for(self._events.log.backlog(), seconds)).waiting
        except (TimeoutError, DatabaseUnavailableError, EventLogUnavailableError):
            return None
        except Exception:  # noqa: BLE001 - told; it is wanted for a figure only
            get_logger(__name__).exception("the backlog of events cannot be read")
            return None

    async def _loop(self, place: int) -> None:
        pause, most = _DEFECT_SECONDS
        idle, last_round = 0, False  # looks in a row that found nothing
        while not self._over.is_set():
            if last_round != self._drain.begun:  # only looks that begin now can say that nothing waits
                idle, last_round = 0, True
            self._news(place).clear()
            try:
                delivered = await self._deliver()
            except HandedOverError:
                return  # the log is closed
            except CircuitOpenError as refused:
                await self._sleep(self._breaker.seconds_left() or refused.details["retry_after_seconds"])
            except (DatabaseUnavailableError, EventLogUnavailableError) as error:
                get_logger(__name__).warning("events cannot be applied now; trying again", code=error.code, reason=error.message)
                await self._sleep(_OUTAGE_SECONDS)
            except Exception:  # noqa: BLE001 - told, and tried again
                get_logger(__name__).exception("applying events broke; trying again", seconds=pause)
                await self._sleep(pause)
                pause = min(pause * 2, most)
            else:
                pause = _DEFECT_SECONDS[0]
                idle = 0 if delivered else idle + 1
                if last_round and self._drain.over(delivered, idle):
                    return
                if idle and not self._drain.begun and await self._rest(place, idle):
                    idle = 0

    async def _deliver(self) -> int:
        settings, log = self._settings, self._events.log
        with self._breaker.guard():
            delivered = await log.deliver(self._events.applier.apply, limit=settings.batch_size, wait_seconds=self._wait_seconds)
        if delivered >= settings.batch_size:
            self._full.set()
        return delivered

    def _news(self, place: int) -> asyncio.Event:
        """One looks for all where nothing waits, so that an idle worker costs little."""
        return self._full if place else self._events.came

    async def _rest(self, place: int, idle: int) -> bool:
        """Whether there is news."""
        most = _MOST_REST_SECONDS[min(place, 1)]
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._news(place).wait(), min(_LEAST_REST_SECONDS * 2 ** min(idle, 10), most))
        return False

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _set_or_ended(event: asyncio.Event, loops: list[asyncio.Task[None]], seconds: float | None) -> None:
    """Wait until it is set, or the time is up. Raises what ended one of the loops, which end by nothing but defects here."""
    waiting = asyncio.create_task(event.wait())
    try:
        done, _ = await asyncio.wait({waiting, *loops}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in done - {waiting}:
        task.result()
