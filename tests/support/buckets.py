"""A bucket of a test's own on each S3 server that the environment names, and the settings that lead penstock to it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.store import S3Store

from penstock.storage import Key, Storage
from tests.support.proxy import Proxy
from tests.support.storages import opened, pending_uploads, settings_of

S3_KINDS = ("swift", "localstack")
_SECONDS = 30


@dataclass(frozen=True)
class Bucket:
    """`env` leads to it directly, `behind` through a proxy."""

    kind: str
    env: dict[str, str]
    storage: Storage

    def objects(self) -> list[str]:
        return sorted(found.key for found in self.storage.list(""))

    def pending(self) -> list[str]:
        return pending_uploads(self.env)

    def put(self, key: str, content: bytes) -> None:
        self.storage.write(Key(key), [content])

    def proxy(self) -> Proxy:
        place = urlsplit(self.env["AWS_ENDPOINT"])
        return Proxy(f"host={place.hostname} port={place.port}")

    def behind(self, proxy: Proxy) -> dict[str, str]:
        return {**self.env, "AWS_ENDPOINT": f"http://127.0.0.1:{proxy.port}"}


@contextmanager
def own_bucket(kind: str) -> Iterator[Bucket]:
    """Empty at first, removed at the end. Skips the test where the server is absent."""
    env = {**settings_of(kind.upper()), "S3_BUCKET": f"t{uuid.uuid4().hex}"}
    _ask("PUT", env)
    made = Bucket(kind, env, opened(env))
    try:
        yield made
    finally:
        for key in made.objects():
            made.storage.delete(Key(key))
        _ask("DELETE", env)


def _ask(method: Any, env: dict[str, str]) -> None:
    """Of the bucket itself: where its name is taken for a part of the host, the object "bucket" has its address."""
    config: Any = {
        "endpoint": env["AWS_ENDPOINT"],
        "access_key_id": env["AWS_ACCESS_KEY_ID"],
        "secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "region": "us-east-1",
        "virtual_hosted_style_request": True,
    }
    store = S3Store(env["S3_BUCKET"], config=config, client_options={"allow_http": True})
    url = obstore.sign(store, method, env["S3_BUCKET"], timedelta(minutes=1))
    httpx.request(method, url, trust_env=False, timeout=_SECONDS).raise_for_status()
