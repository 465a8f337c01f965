"""What has been received."""

from uuid import UUID

import msgspec

from penstock.storage.model import Key, SignedLink


class ReceivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file in storage, noted in `penstock.files`."""

    key: Key
    name: str  # as its sender calls it, without folders
    size: int  # bytes
    sha256: str | None  # hexadecimal; None where the client put the file into the bucket itself
    resource: str | None = None  # of an upload that was asked for with one


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A place that a client may send a file to, by the link, until it expires."""

    upload_id: UUID
    link: SignedLink
