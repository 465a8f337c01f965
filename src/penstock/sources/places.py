"""Where a job's file lies, as its row in the ledger tells it to every process that may work on it."""

from typing import Any

import msgspec

from penstock.storage.model import Key


class LocalFile(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="file"):
    """A file of this machine (or of a folder that all machines share)."""

    path: str


class InStorage(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="object"):
    key: Key
    name: str  # as its sender called it


class RemoteUrl(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="url"):
    """Fetched into storage by the first attempt; the job's place is then the object."""

    url: str
    name: str


Place = LocalFile | InStorage | RemoteUrl


def place_of(row: dict[str, Any]) -> Place:
    """From the ledger. Rows that were written before files had kinds are local files."""
    return LocalFile(path=row["path"]) if "kind" not in row else msgspec.convert(row, Place, strict=False)
