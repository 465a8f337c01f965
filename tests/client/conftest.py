"""A server that answers as a test tells it to: for faults that a real one does not show on demand."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from penstock.client import Server
from penstock.errors import PenstockError
from tests.cli.fakes import make_job

JOB = make_job(1)
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request; its answer is the next of the script, or the last one again."""

    protocol_version = "HTTP/1.1"
    server: "ScriptedServer"

    def _answer(self) -> None:
        script = self.server.script
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        (script.pop(0) if len(script) > 1 else script[0])(self)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that the standard library looks for

    def log_message(self, *_arguments: Any) -> None:
        """Quiet."""

    def body(self) -> bytes:
        """The whole body, whichever way its length is told. Raises EOFError for one that is cut."""
        if (length := self.headers.get("Content-Length")) is not None:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                raise EOFError
            return body
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drop(self) -> None:
        self.close_connection = True


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    def handle_error(self, *_arguments: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


@dataclass
class Scripted:
    server: ScriptedServer
    client: Server
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answers(self, *script: Answer) -> None:
        self.server.script = list(script)

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path, _ in self.server.seen]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Server(f"http://127.0.0.1:{server.server_address[1]}", timeout=10) as client:
            yield Scripted(server, client)
        server.shutdown()
        thread.join()


def job_json(**changes: Any) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(JOB, **changes))


def good(body: bytes, **headers: str) -> Answer:
    return lambda handler: handler.send(200, body, **headers)


def refusing(error: PenstockError, **headers: str) -> Answer:
    """As the API refuses."""
    inner = {"code": error.code, "message": error.message, "details": error.details}
    body = msgspec.json.encode({"title": error.code, "status": error.http_status, "detail": error.message, "error": inner})
    return lambda handler: handler.send(error.http_status, body, X_Request_ID="r-1", **headers)


def dropping(handler: Handler) -> None:
    """Not a word, and the connection is gone."""
    handler.drop()


def streaming(*pieces: bytes, whole: bool = False, kind: str = "application/x-ndjson") -> Answer:
    """Pieces as they come; without the last chunk unless it is `whole`."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.flush()
        if whole:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return answer
