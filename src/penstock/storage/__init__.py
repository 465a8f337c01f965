"""Where files lie that outlive a request: a folder, or a bucket. Nothing above knows which.

A local import reads the names here too; what only a server needs is imported when storage is opened.
"""

from typing import TYPE_CHECKING

from penstock.storage.links import verify_link
from penstock.storage.model import EXPORTS, Key, Method, SignedLink, Storage, StoredObject

if TYPE_CHECKING:  # it imports pydantic and psycopg
    from penstock.settings import Settings

__all__ = ["EXPORTS", "Key", "Method", "SignedLink", "Storage", "StoredObject", "open_storage", "verify_link"]


def open_storage(settings: "Settings", *, secret: bytes) -> Storage:
    """The bucket that the settings name, else the folder PENSTOCK_DATA_DIR/storage, with exports in EXPORT_DIR if that is set; folders are
    made when absent. `secret` signs links to them.

    Raises StorageUnavailableError if a folder cannot be made; a bucket is not asked before it is used.
    """
    if settings.s3_bucket is None:
        return _folders(settings, secret)
    from penstock.logs import get_logger  # noqa: PLC0415 - costly
    from penstock.storage.s3 import S3Storage  # noqa: PLC0415 - obstore takes a tenth of a second that a local import need not pay

    if settings.export_dir is not None:
        get_logger(__name__).warning("S3_BUCKET is set, so EXPORT_DIR has no effect: exports are stored in the bucket")
    return S3Storage(settings, settings.s3_bucket)


def _folders(settings: "Settings", secret: bytes) -> Storage:
    from penstock.storage.divided import DividedStorage  # noqa: PLC0415 - asyncio, which a local import need not pay
    from penstock.storage.local import LocalStorage  # noqa: PLC0415 - likewise

    folder = LocalStorage(settings.penstock_data_dir / "storage", secret)
    if settings.export_dir is None:
        return folder
    return DividedStorage(folder, LocalStorage(settings.export_dir, secret, below=EXPORTS))
