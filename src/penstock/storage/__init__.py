"""Where files lie that outlive a request: a folder, or a bucket. Nothing above knows which."""

from penstock.settings import Settings
from penstock.storage.links import verify_link
from penstock.storage.local import LocalStorage
from penstock.storage.model import Key, Method, SignedLink, Storage, StoredObject

__all__ = ["Key", "LocalStorage", "Method", "SignedLink", "Storage", "StoredObject", "open_storage", "verify_link"]


def open_storage(settings: Settings, *, secret: bytes) -> Storage:
    """The bucket that the settings name, else the folder PENSTOCK_DATA_DIR/storage, made when absent. `secret` signs links to the folder.

    Raises StorageUnavailableError if the folder cannot be made; a bucket is not asked before it is used.
    """
    if settings.s3_bucket is None:
        return LocalStorage(settings.penstock_data_dir / "storage", secret)
    from penstock.storage.s3 import S3Storage  # noqa: PLC0415 - obstore takes a tenth of a second that a local import need not pay

    return S3Storage(settings, settings.s3_bucket)
