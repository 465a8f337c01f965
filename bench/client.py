"""A client of the service on one connection that is kept, with as little between the clock and the socket as the standard library has."""

import http.client
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from bench.loads import WrongResultError

BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 600.0
_POLL_SECONDS = 0.02
_BOUNDARY = "penstock-bench-5d1f0c"
_ENDED = ("COMPLETED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class Body:
    """What a POST sends: bytes, or blocks of `size` bytes together."""

    content: bytes | Iterable[bytes]
    type: str
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds` from before the request was sent until its answer was read."""

    content: dict[str, Any]
    seconds: float


class Client:
    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS, blocksize=BLOCK_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def answers(self, path: str) -> bool:
        """Whether a server is there and says 200."""
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False
        return answer.status == http.client.OK

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None, {}, (200,))

    def post(self, path: str, body: Body) -> Answer:
        return self._ask("POST", path, body.content, _headers(body), (201, 202))

    def put(self, url: str, content: bytes, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._ask("PUT", f"{parts.path}?{parts.query}", content, headers, (200, 201, 204))

    def ended(self, job_id: str, limit_seconds: float) -> dict[str, Any]:
        """The job at its end; asked for every 20 ms. Raises WrongResultError if that does not come."""
        deadline = time.monotonic() + limit_seconds
        while (job := self.get(f"/v1/imports/{job_id}").content)["status"] not in _ENDED:
            if time.monotonic() > deadline:
                raise WrongResultError(f"The job is {job['status']} after {limit_seconds:.0f} s.")
            time.sleep(_POLL_SECONDS)
        return job

    def _ask(
        self, method: str, path: str, content: bytes | Iterable[bytes] | None, headers: Mapping[str, str], expected: tuple[int, ...]
    ) -> Answer:
        began = time.perf_counter()
        try:
            self._connection.request(method, path, content, dict(headers))
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise WrongResultError(f"{method} {path.partition('?')[0]} had no answer: {error!r}") from error
        seconds = time.perf_counter() - began
        if answer.status not in expected:
            raise WrongResultError(
                f"{method} {path.partition('?')[0]} was answered with {answer.status}: {said[:500].decode(errors='replace')}"
            )
        return Answer(json.loads(said) if said else {}, seconds)


def raw(file: Path | bytes) -> Body:
    """The file as the body itself."""
    return Body(file if isinstance(file, bytes) else blocks(file), "text/csv", _size(file))


def form(file: Path | bytes, **fields: str) -> Body:
    """The file in a form, behind its fields."""
    head = "".join(f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    head += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="users.csv"\r\nContent-Type: text/csv\r\n\r\n'
    before, behind = head.encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()
    content = before + file + behind if isinstance(file, bytes) else _around(before, file, behind)
    return Body(content, f"multipart/form-data; boundary={_BOUNDARY}", len(before) + _size(file) + len(behind))


def as_json(**values: str) -> Body:
    content = json.dumps(values).encode()
    return Body(content, "application/json", len(content))


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _around(before: bytes, path: Path, behind: bytes) -> Iterator[bytes]:
    yield before
    yield from blocks(path)
    yield behind


def _size(file: Path | bytes) -> int:
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def _headers(body: Body) -> dict[str, str]:
    return {"Content-Type": body.type, "Content-Length": str(body.size)}
