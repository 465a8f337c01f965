"""What the API and the workers call to accept events, apply them and look after those that could not be."""

import asyncio
from collections.abc import Sequence

from penstock.database.connect import Database
from penstock.errors import DatabaseUnavailableError, EventLogUnavailableError, SettingsError
from penstock.events.applying import Applier
from penstock.events.dead_letters import DeadLetters
from penstock.events.log import EventLog
from penstock.events.model import Event, Outcome
from penstock.events.reading import EventReader
from penstock.lifecycle.gate import Gate
from penstock.logs import get_logger
from penstock.resources.registry import Registry
from penstock.settings import Settings

PRODUCTS = "products"
_CLOSE_SECONDS = 10.0


class Events:
    """Used on one event loop; `close` it there. `came` is set when some are accepted; whoever waits for it clears it."""

    def __init__(self, database: Database, registry: Registry, settings: Settings, *, gate: Gate) -> None:
        products = registry.get(PRODUCTS)
        self.reader = EventReader(products)
        self.log = _log(database, settings, gate)
        self.applier = Applier(products, settings)
        self.came = asyncio.Event()
        self.dead_letters = DeadLetters(database, self.log)

    async def check(self) -> None:
        """For whoever serves or works, before it does. An outage keeps nobody from starting.

        Raises SettingsError, and is closed, where the log would lose events.
        """
        try:
            await self.log.check()
        except (DatabaseUnavailableError, EventLogUnavailableError) as error:
            get_logger(__name__).error(
                "the event log is away: events are neither accepted nor applied until it is back", reason=error.message
            )
        except SettingsError:
            await self.close()
            raise

    async def accept(self, events: Sequence[Event]) -> list[Outcome]:
        """As `EventLog.append`."""
        outcomes = await self.log.append(events)
        self.came.set()
        return outcomes

    async def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """After the last request and the last batch, which use the log; in that time. Raises nothing: the process ends all the same."""
        try:
            await asyncio.wait_for(self.log.close(), seconds)
        except TimeoutError:
            get_logger(__name__).error("did not end in time and is cut off", what="event log")
        except Exception:  # noqa: BLE001 - see above
            get_logger(__name__).exception("failed while stopping", what="event log")


def _log(database: Database, settings: Settings, gate: Gate) -> EventLog:
    if settings.nats_url is not None:
        from penstock.events.nats_log import NatsLog  # noqa: PLC0415 - the library of NATS, which few need

        return NatsLog(database, settings, gate=gate)
    from penstock.events.postgres_log import PostgresLog  # noqa: PLC0415 - for symmetry

    return PostgresLog(database, settings, gate=gate)
