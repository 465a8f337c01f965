"""Storage in a bucket, through obstore. Objects are read in ranges, each a request with a time-out of its own, and stored in parts.

Only obstore's synchronous calls are used, in threads: a process that had used its asynchronous ones died at its exit now and then, after
all was done, with SIGABRT or SIGBUS (docs/decisions/storage.md).
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from penstock.errors import ObjectNotFoundError, StorageUnavailableError
from penstock.logs import get_logger
from penstock.settings import Settings
from penstock.storage.disposition import attachment
from penstock.storage.keys import checked, is_key
from penstock.storage.model import Key, Method, SignedLink, StoredObject
from penstock.storage.presigning import with_parameters
from penstock.storage.threads import in_thread, pour, streamed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config  # not there at run time

BLOCK_BYTES = 8 * 1024 * 1024
_MOST_PARTS = 10_000  # S3's limit; the parts are made as large as MAX_UPLOAD_BYTES then needs
_PARTS_AT_ONCE = 3
_LIST_BLOCK = 1000
_MISSING = "The file is not in storage. It was removed or replaced, or never arrived."


class S3Storage:
    def __init__(self, settings: Settings, bucket: str) -> None:
        self._bucket = bucket
        self._endpoint = settings.aws_endpoint
        self._secret = settings.aws_secret_access_key
        self._part_bytes = max(BLOCK_BYTES, -(-settings.max_upload_bytes // _MOST_PARTS))
        self._store = _store(settings, bucket, timeout=60, retries=5, retry_seconds=60)
        self._impatient = _store(settings, bucket, timeout=5, retries=1, retry_seconds=5)

    @property
    def identity(self) -> str:
        return f"s3:{self._endpoint or 'aws'}/{self._bucket}"

    async def put(self, key: Key, chunks: AsyncIterator[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        file = await in_thread(self._begin, key, content_type)
        try:
            await pour(chunks, partial(self._write_to, file, key))
        except BaseException as error:
            await in_thread(self._abort, file, error)
            raise
        return await in_thread(self._complete, file, key)

    def write(self, key: Key, chunks: Iterable[bytes], *, content_type: str = "application/octet-stream") -> StoredObject:
        file = self._begin(key, content_type)
        try:
            for chunk in chunks:
                self._write_to(file, key, chunk)
        except BaseException as error:
            self._abort(file, error)
            raise
        return self._complete(file, key)

    def _begin(self, key: Key, content_type: str) -> "obstore.WritableFile":
        attributes = {"Content-Type": content_type, "Content-Disposition": "attachment"}
        with self._translated(key, writing=True):
            return obstore.open_writer(
                self._store, checked(key), attributes=attributes, buffer_size=self._part_bytes, max_concurrency=_PARTS_AT_ONCE
            )

    def _write_to(self, file: "obstore.WritableFile", key: Key, block: bytes) -> None:
        with self._translated(key, writing=True):
            file.write(block)

    def _complete(self, file: "obstore.WritableFile", key: Key) -> StoredObject:
        with self._translated(key, writing=True):
            file.close()
            return _described(obstore.head(self._store, key))

    def _abort(self, file: "obstore.WritableFile", error: BaseException) -> None:
        """With an error, leaving its context aborts the upload and its parts do not stay. A fault in that must not hide the error."""
        try:
            file.__exit__(type(error), error, error.__traceback__)
        except (BaseError, OSError) as fault:
            self._log(fault)

    def stat(self, key: Key) -> StoredObject:
        with self._translated(key):
            return _described(obstore.head(self._store, checked(key)))

    def read(self, key: Key, offset: int = 0, length: int | None = None, *, version: str | None = None) -> Generator[bytes, None, None]:
        found = self.stat(key)
        if version not in (None, found.version):
            raise ObjectNotFoundError(_MISSING, key=key)
        return self._blocks(found, offset, length)

    def _blocks(self, found: StoredObject, offset: int, length: int | None) -> Generator[bytes, None, None]:
        for start, end in _ranges(found.size, offset, length):
            with self._translated(found.key):
                block = obstore.get(self._store, found.key, options={"range": (start, end), "if_match": found.version}).bytes()
            yield bytes(block)

    async def stream(self, key: Key, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        return streamed(await in_thread(self.read, key, offset, length))

    def sign(self, method: Method, key: Key, expires: timedelta, *, filename: str | None = None) -> SignedLink:
        made = datetime.now(UTC)
        with self._translated(key):
            url = obstore.sign(self._store, method.value, checked(key), expires)
        if method is Method.GET and self._secret is not None:
            # obstore cannot sign a parameter. With credentials of the machine the link says `attachment` only, as the object was stored.
            url = with_parameters(url, self._secret.get_secret_value(), {"response-content-disposition": attachment(filename)})
        return SignedLink(method=method, url=url, headers={}, expires_at=made + expires)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        # obstore lists whole folders; a part of a name is compared here.
        folder = prefix.rpartition("/")[0]
        with self._translated(None):
            blocks = iter(obstore.list(self._store, folder or None, chunk_size=_LIST_BLOCK))
        while True:
            with self._translated(None):
                block = next(blocks, None)
            if block is None:
                return
            yield from (_described(found) for found in block if found["path"].startswith(prefix) and is_key(found["path"]))

    def delete(self, key: Key) -> None:
        with self._translated(key, writing=True):  # what is missing then is the bucket
            obstore.delete(self._store, checked(key))

    def local_path(self, key: Key) -> None:
        """An object has none."""

    def check(self) -> None:
        key = Key(f"checks/{uuid.uuid4()}")
        with self._translated(key, writing=True):
            obstore.put(self._impatient, key, b"x")
            obstore.delete(self._impatient, key)

    def sweep_leftovers(self, older_than: timedelta) -> int:  # noqa: ARG002 - the seam's
        """Parts that a killed process left are the bucket's to remove, by a lifecycle rule; nobody sees them."""
        return 0

    @contextmanager
    def _translated(self, key: Key | None, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if writing or key is None:
                raise StorageUnavailableError(f"There is no bucket {self._bucket}. Make it, or correct S3_BUCKET.", refused=True) from error
            raise ObjectNotFoundError(_MISSING, key=key) from error
        except PreconditionError as error:
            raise ObjectNotFoundError(_MISSING, key=key) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            self._log(error)
            raise StorageUnavailableError(
                f"The bucket {self._bucket} may not be used with these credentials. Check AWS_ACCESS_KEY_ID, its secret and its rights.",
                refused=True,
            ) from error
        except (BaseError, OSError) as error:  # obstore's writers raise the latter, whatever the matter is
            self._log(error)
            raise StorageUnavailableError("The object storage does not answer as it should. Try again; else check AWS_ENDPOINT.") from error

    def _log(self, error: BaseException) -> None:
        get_logger(__name__).warning("object storage failed", bucket=self._bucket, error=str(error).partition("\n\nDebug source")[0])


def _store(settings: Settings, bucket: str, *, timeout: int, retries: int, retry_seconds: int) -> S3Store:
    endpoint = settings.aws_endpoint
    config: S3Config = {
        "region": settings.aws_region,
        # Where buckets' names are parts of the host, one with a dot has no certificate, and other servers than Amazon's have no such hosts.
        "virtual_hosted_style_request": endpoint is None and "." not in bucket,
    }
    if endpoint is not None:
        config["endpoint"] = endpoint
    if settings.aws_access_key_id is not None:
        config["access_key_id"] = settings.aws_access_key_id
    if settings.aws_secret_access_key is not None:
        config["secret_access_key"] = settings.aws_secret_access_key.get_secret_value()
    client: ClientConfig = {
        "timeout": timedelta(seconds=timeout),
        "connect_timeout": timedelta(seconds=5),
        "allow_http": endpoint is not None and endpoint.startswith("http://"),
    }
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2}
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=retry_seconds), "backoff": backoff}  # type: ignore[typeddict-item]
    return S3Store(bucket, config=config, client_options=client, retry_config=retry)


def _ranges(size: int, offset: int, length: int | None) -> Iterator[tuple[int, int]]:
    """Begin and end of each block; S3 refuses an empty range, and one behind the end."""
    end = size if length is None else min(size, offset + length)
    return ((start, min(start + BLOCK_BYTES, end)) for start in range(offset, end, BLOCK_BYTES))


def _described(found: Any) -> StoredObject:
    return StoredObject(key=Key(found["path"]), size=found["size"], version=found["e_tag"] or "", modified_at=found["last_modified"])
