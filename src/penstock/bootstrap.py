"""One place wires a process: settings in, services out. Nothing else holds connections or reads settings."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from penstock.database.connect import Database, database
from penstock.database.migrate import migrate
from penstock.database.shared import found_value, replace_shared_value, shared_secret, shared_value
from penstock.database.sqlstates import translated
from penstock.database.tables import ensure_tables
from penstock.errors import SettingsError, StorageUnavailableError
from penstock.imports.reading import JobReader
from penstock.imports.service import Imports
from penstock.lifecycle.gate import Gate, permits_of
from penstock.logs import get_logger
from penstock.queue import Queue
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.sources import Sources

if TYPE_CHECKING:  # what only a server needs is made when it is asked for; the command line must not wait for it
    from penstock.events.service import Events
    from penstock.exports.service import Exports
    from penstock.idempotency import Idempotency
    from penstock.intake.files import Files
    from penstock.records import Records
    from penstock.storage import Storage


@dataclass(frozen=True)
class Application:
    """The services of one process. Those that only a server needs are made at their first use."""

    settings: Settings
    registry: Registry
    database: Database
    gate: Gate = field(init=False)  # one for the process: what a worker carries and what the API streams share it

    def __post_init__(self) -> None:
        object.__setattr__(self, "gate", Gate(permits_of(self.settings.import_workers)))

    @cached_property
    def link_secret(self) -> bytes:
        """Signs links to local storage; the same for all servers of one database. Raises DatabaseError."""
        return shared_secret(self.database, "link_secret")

    @cached_property
    def storage(self) -> "Storage":
        """Raises StorageError, DatabaseError."""
        from penstock.storage import open_storage  # noqa: PLC0415 - the object store's library, which local imports do not need

        return open_storage(self.settings, secret=self.link_secret)

    def check_storage(self) -> None:
        """For whoever serves or works: files that one process stores, every other must find.

        A storage is noted as that of the database only once it has worked: a name that is mistyped at the first start would else be what
        all others are held to. An outage keeps nobody from starting who has the storage that is noted.

        Raises SettingsError where the processes of this database have another storage; StorageError, DatabaseError.
        """
        agreed = found_value(self.database, "storage")
        if agreed is not None:
            self._refuse_another(agreed)
        try:
            self.storage.check()
        except StorageUnavailableError as error:
            if agreed is None or error.details.get("refused"):
                raise
            get_logger(__name__).error("storage is away: files can neither be stored nor read until it is back", reason=error.message)
        if agreed is None:
            self._refuse_another(shared_value(self.database, "storage", self._storage_name))

    def _refuse_another(self, agreed: str) -> None:
        mine = self._storage_name
        if agreed.partition(" at ")[0] != self.storage.identity:
            raise SettingsError(
                f"The servers and workers of this database keep files in another storage ({agreed}) than these settings name ({mine}). Set "
                "PENSTOCK_DATA_DIR, EXPORT_DIR or S3_BUCKET as they have it; if the files have moved for good: "
                "penstock migrate --adopt-storage",
                agreed=agreed,
                here=mine,
            )

    def adopt_storage(self) -> str:
        """From now on the storage of these settings is that of the database; its name. Raises StorageError, DatabaseError."""
        self.storage.check()
        replace_shared_value(self.database, "storage", self._storage_name)
        return self._storage_name

    @property
    def _storage_name(self) -> str:
        settings = self.settings
        place = settings.s3_bucket or str(settings.penstock_data_dir.absolute() / "storage")
        if settings.s3_bucket is None and settings.export_dir is not None:
            place += f" and {settings.export_dir.absolute()}"
        return f"{self.storage.identity} at {place}"

    @cached_property
    def sources(self) -> Sources:
        return Sources(lambda: self.storage)

    @cached_property
    def queue(self) -> Queue:
        return Queue(self.database)

    @cached_property
    def files(self) -> "Files":
        from penstock.intake.files import Files  # noqa: PLC0415 - as above

        return Files(self.database, lambda: self.storage, self.settings)

    @cached_property
    def idempotency(self) -> "Idempotency":
        from penstock.idempotency import Idempotency  # noqa: PLC0415 - as above

        return Idempotency(self.database)

    @cached_property
    def records(self) -> "Records":
        from penstock.records import Records  # noqa: PLC0415 - as above

        return Records(self.database, self.registry)

    @cached_property
    def imports(self) -> Imports:
        return Imports(self.database, self.registry, self.settings, sources=self.sources, queue=self.queue)

    @cached_property
    def exports(self) -> "Exports":
        from penstock.exports.service import Exports  # noqa: PLC0415 - the driver for Arrow, which imports do not need

        return Exports(self.database, self.registry, self.settings, queue=self.queue, storage=lambda: self.storage, gate=self.gate)

    @cached_property
    def events(self) -> "Events":
        """To be closed by whoever runs the event loop that it was used on."""
        from penstock.events.service import Events  # noqa: PLC0415 - as above

        return Events(self.database, self.registry, self.settings, gate=self.gate)

    @cached_property
    def jobs(self) -> JobReader:
        """Jobs of every kind."""
        return JobReader(self.database, self.registry)


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
        yield Application(settings, registry, opened)


def prepare(opened: Database, registry: Registry) -> list[str]:
    """Bring Penstock's tables up to date and make the resources' where they are missing; the names of migrations that were applied."""
    with opened.connect(autocommit=True) as connection:
        applied = migrate(connection)
        Queue(opened).install(connection)
        with translated("preparing the resources' tables"):
            ensure_tables(connection, registry)
    return applied
