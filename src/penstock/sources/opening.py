"""From the place that a job names to the source that is read."""

from collections.abc import Callable

from penstock.errors import InvalidSourceError
from penstock.sources.local import open_source
from penstock.sources.model import Source
from penstock.sources.places import InStorage, LocalFile, Place, RemoteUrl
from penstock.storage.model import Storage


class Sources:
    """May be used by several threads. `storage` opens the storage at its first use and gives the same one after that."""

    def __init__(self, storage: Callable[[], Storage]) -> None:
        self._storage = storage

    @property
    def storage(self) -> Storage:
        return self._storage()

    def open(self, place: Place) -> Source:
        """Raises InvalidSourceError if there is no such file, or it must be fetched first; StorageUnavailableError."""
        match place:
            case LocalFile(path=path):
                return open_source(path)
            case InStorage():
                return self._stored(place)
            case RemoteUrl(name=name):
                raise InvalidSourceError(f"{name} was not fetched into storage yet")

    def _stored(self, place: InStorage) -> Source:
        storage = self.storage
        path = storage.local_path(place.key)
        if path is None:
            from penstock.sources.objects import open_object  # noqa: PLC0415 - local imports need none of it

            return open_object(storage, place.key, place.name)
        if not path.exists():
            raise InvalidSourceError(f"{place.name} is not in storage any more; send it again", key=place.key)
        return open_source(path, place.name)
