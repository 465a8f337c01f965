"""Requests as bytes on a socket: what no decent client would send."""

import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

BOUNDARY = "----b0undary"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, filename: str | None = None, *headers: str) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    head = "\r\n".join([f"Content-Disposition: {disposition}", *headers])
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def raw_request(url: str, head: Iterable[str], pieces: Iterable[bytes], *, hang_up: bool = False, seconds: float = 30) -> bytes:
    """Send a request as it is and read the answer, as far as its Content-Length says. `hang_up`: end the sending side after the last piece.

    An answer may be lost where the server closed while there was still something to read for it: then what came is empty.
    """
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), seconds) as connection:
        lines = [*head, f"Host: {place.netloc}", "Connection: close", "", ""]
        try:
            connection.sendall("\r\n".join(lines).encode())
            for piece in pieces:
                connection.sendall(piece)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            return _answer(connection)
        except ConnectionError:
            return b""


def _answer(connection: socket.socket) -> bytes:
    held = b""
    while not _is_whole(held) and (block := connection.recv(65536)):
        held += block
    return held


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])
