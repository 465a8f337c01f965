"""Where files lie that outlive a request: a folder, or a bucket. Nothing above knows which.

A local import reads the names here too; what only a server needs is imported when storage is opened.
"""

from typing import TYPE_CHECKING

from penstock.storage.links import verify_link
from penstock.storage.model import Key, Method, SignedLink, Storage, StoredObject

if TYPE_CHECKING:  # it imports pydantic and psycopg
    from penstock.settings import Settings

__all__ = ["Key", "Method", "SignedLink", "Storage", "StoredObject", "open_storage", "verify_link"]


def open_storage(settings: "Settings", *, secret: bytes) -> Storage:
    """The bucket that the settings name, else the folder PENSTOCK_DATA_DIR/storage, made when absent. `secret` signs links to the folder.

    Raises StorageUnavailableError if the folder cannot be made; a bucket is not asked before it is used.
    """
    if settings.s3_bucket is None:
        from penstock.storage.local import LocalStorage  # noqa: PLC0415 - asyncio, which a local import need not pay

        return LocalStorage(settings.penstock_data_dir / "storage", secret)
    from penstock.storage.s3 import S3Storage  # noqa: PLC0415 - obstore takes a tenth of a second that a local import need not pay

    return S3Storage(settings, settings.s3_bucket)
