"""One place wires a process: settings in, services out. Nothing else holds connections or reads settings."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from penstock.database.connect import Database, database
from penstock.database.migrate import migrate
from penstock.database.tables import ensure_tables
from penstock.imports.service import Imports
from penstock.resources.registry import Registry
from penstock.settings import Settings


@dataclass(frozen=True, slots=True)
class Application:
    settings: Settings
    registry: Registry
    database: Database
    imports: Imports


# Objects that are made before the cyclic garbage collector looks at the youngest. A wave of NDJSON makes millions, none of them in a
# cycle; with Python's 700 the collector takes a tenth of the import's time.
_COLLECTOR_THRESHOLD = 200_000


@contextmanager
def application(settings: Settings) -> Iterator[Application]:
    """Everything a command needs, on a database that is up to date.

    Raises InvalidResourceError, DatabaseUnavailableError, DatabaseRefusedError.
    """
    gc.set_threshold(_COLLECTOR_THRESHOLD, 20, 100)
    registry = Registry.load(*settings.penstock_resources)
    with database(settings) as opened:
        prepare(opened, registry)
        yield Application(settings, registry, opened, Imports(opened, registry, settings))


def prepare(opened: Database, registry: Registry) -> list[str]:
    """Bring Penstock's tables up to date and make the resources' where they are missing; the names of migrations that were applied."""
    with opened.connect(autocommit=True) as connection:
        applied = migrate(connection)
        ensure_tables(connection, registry)
    return applied
