"""Every kind of storage that a test may run on: a folder, and the S3 servers whose addresses the environment has.

`PENSTOCK_TEST_SWIFT_URL`, `_KEY`, `_SECRET`, `_BUCKET` name a Swift, the same with LOCALSTACK a LocalStack; `.ci/services.sh` starts them.
A LocalStack takes forged and expired links unless it runs with S3_SKIP_SIGNATURE_VALIDATION=0 and is used with the keys test/test; the
signatures of other requests it never looks at.
"""

import os
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import obstore
import pytest
from obstore.store import S3Store

from penstock.errors import InvalidLinkError
from penstock.settings import load_settings
from penstock.storage import EXPORTS, Key, SignedLink, Storage, open_storage, verify_link
from penstock.storage.disposition import attachment
from penstock.storage.links import PREFIX
from penstock.storage.presigning import with_parameters

SECRET = b"of the test"
KINDS = ("folder", "exports", "swift", "localstack")  # the second is a folder too: what lies in EXPORT_DIR
_SECONDS = 30


class Place(NamedTuple):
    """A storage, the settings that another process finds it by, and a prefix in it that is the test's own."""

    kind: str
    storage: Storage
    env: dict[str, str]
    prefix: str

    def key(self, name: str = "a") -> Key:
        return Key(f"{self.prefix}/{name}")

    def keys(self) -> list[str]:
        return [found.key for found in self.storage.list(f"{self.prefix}/")]

    def remains(self) -> list[str]:
        """What is there of objects that are not whole."""
        if self.kind == "folder":
            folder = Path(self.env.get("EXPORT_DIR") or f"{self.env['PENSTOCK_DATA_DIR']}/storage")
            return [path.name for path in (folder / ".partial").iterdir()]
        return [key for key in pending_uploads(self.env) if key.startswith(self.prefix)]

    def again(self, **changed: str) -> Storage:
        """As another process opens it."""
        return opened({**self.env, **changed})


def opened(env: dict[str, str]) -> Storage:
    return open_storage(load_settings(env, Path("/nonexistent")), secret=SECRET)


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Place]:
    """Skips the test where the server is absent."""
    env, prefix = {"PENSTOCK_DATA_DIR": str(folder / "data")}, f"t{uuid.uuid4().hex}"
    match kind:
        case "folder":
            pass
        case "exports":
            env["EXPORT_DIR"], kind, prefix = str(folder / "exported"), "folder", EXPORTS + prefix
        case _:
            env |= settings_of(kind.upper())
    made = Place(kind, opened(env), env, prefix)
    yield made
    for key in made.keys():  # noqa: SIM118 - no mapping
        made.storage.delete(Key(key))


def settings_of(name: str) -> dict[str, str]:
    """What leads to the bucket that the environment names. Skips the test where it names none."""
    variables = {
        "AWS_ENDPOINT": f"PENSTOCK_TEST_{name}_URL",
        "AWS_ACCESS_KEY_ID": f"PENSTOCK_TEST_{name}_KEY",
        "AWS_SECRET_ACCESS_KEY": f"PENSTOCK_TEST_{name}_SECRET",
        "S3_BUCKET": f"PENSTOCK_TEST_{name}_BUCKET",
    }
    if missing := [variable for variable in variables.values() if variable not in os.environ]:
        pytest.skip(f"no {name.title()}: {', '.join(missing)} not set")
    return {setting: os.environ[variable] for setting, variable in variables.items()}


def pending_uploads(env: dict[str, str]) -> list[str]:
    """Keys of the bucket's multipart uploads that were neither completed nor aborted."""
    bucket = env["S3_BUCKET"]
    config: Any = {
        "endpoint": env["AWS_ENDPOINT"],
        "access_key_id": env["AWS_ACCESS_KEY_ID"],
        "secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "region": "us-east-1",
        "virtual_hosted_style_request": True,  # the object "bucket" then has the address of the bucket itself
    }
    store = S3Store(bucket, config=config, client_options={"allow_http": True})
    url = obstore.sign(store, "GET", bucket, timedelta(minutes=1))
    answer = httpx.get(with_parameters(url, env["AWS_SECRET_ACCESS_KEY"], {"uploads": ""}), trust_env=False, timeout=_SECONDS)
    answer.raise_for_status()
    assert "ListMultipartUploadsResult" in answer.text
    return re.findall("<Key>(.*?)</Key>", answer.text)


@contextmanager
def following(storage: Storage) -> Iterator[httpx.Client]:
    """A client for the storage's links. Those to a folder lead to a small server of the test, which does what Penstock's does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_LinkServer,), {"storage": storage}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False, timeout=_SECONDS) as client:
            yield client
    finally:
        server.shutdown()
        thread.join(_SECONDS)
        server.server_close()


def altered(link: SignedLink, old: str, new: str) -> str:
    assert old in link.url
    return link.url.replace(old, new)


class _LinkServer(BaseHTTPRequestHandler):
    storage: Storage

    def do_GET(self) -> None:
        if (key := self._verified("GET")) is None:
            return
        found = self.storage.stat(key)
        filename = dict(parse_qsl(urlsplit(self.path).query)).get("filename")
        self.send_response(200)
        self.send_header("Content-Length", str(found.size))
        self.send_header("Content-Disposition", attachment(filename))
        self.end_headers()
        for block in self.storage.read(key):
            self.wfile.write(block)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if key := self._verified("PUT"):
            self.storage.write(key, [body])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _verified(self, method: str) -> Key | None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix(PREFIX)
        try:
            verify_link(SECRET, method, key, parse_qsl(parts.query))
        except InvalidLinkError as error:
            self.send_response(error.http_status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return Key(key)

    def log_message(self, *_arguments: object) -> None:
        """Nothing: the tests look at answers."""
