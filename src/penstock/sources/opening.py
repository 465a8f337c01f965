"""From a job's place to a source that can be read."""

from collections.abc import Callable

from penstock.errors import InvalidSourceError
from penstock.sources.local import open_source
from penstock.sources.model import Source
from penstock.sources.places import InStorage, LocalFile, Place, RemoteUrl
from penstock.storage.model import Storage


class Sources:
    """`storage` opens the storage at its first use and gives the same one after that."""

    def __init__(self, storage: Callable[[], Storage]) -> None:
        self._storage = storage

    @property
    def storage(self) -> Storage:
        return self._storage()

    def open(self, place: Place) -> Source:
        """Raises InvalidSourceError, ObjectNotFoundError, StorageUnavailableError."""
        match place:
            case LocalFile(path=path):
                return open_source(path)
            case InStorage(name=name):
                raise InvalidSourceError(f"{name} lies in storage, which cannot be read yet.")
            case RemoteUrl(name=name):
                raise InvalidSourceError(f"{name} must be fetched into storage before it can be read.")
