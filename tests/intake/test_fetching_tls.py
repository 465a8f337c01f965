"""Fetching by https: the connection goes to the address that was judged, the certificate must be that of the name."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from penstock.errors import DownloadFailedError, ForbiddenUrlError
from penstock.sources.fetching import fetch

NAME = "files.example"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"id,name\n"
        away = self.path.startswith("/away")
        self.send_response(302 if away else 200)
        if away:
            self.send_header("Location", f"http://{self.headers['Host']}/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - the base class's names
        return


class _Server(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not like the certificate hangs up: that is the test."""


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is absent")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    wanted = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={NAME}",
        "-addext",
        f"subjectAltName=DNS:{NAME}",
    ]
    subprocess.run([openssl, *wanted, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _fetched(url: str) -> bytes:
    allowed = [IPv4Network("127.0.0.0/8")]
    cancel = threading.Event()
    with fetch(url, allowed=allowed, max_bytes=1000, total_seconds=20, cancel=cancel, resolve=lambda _host, _port: ["127.0.0.1"]) as file:
        return b"".join(file.chunks)


def test_the_certificate_must_be_that_of_the_name(port: int) -> None:
    """Not of the address, and not of another name that leads to the same address."""
    assert _fetched(f"https://{NAME}:{port}/") == b"id,name\n"
    for other in ("other.example", "127.0.0.1"):
        with pytest.raises(DownloadFailedError, match="certificate"):
            _fetched(f"https://{other}:{port}/")


def test_https_is_never_left_for_http(port: int) -> None:
    with pytest.raises(ForbiddenUrlError, match="from https to http"):
        _fetched(f"https://{NAME}:{port}/away")
