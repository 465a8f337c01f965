"""Requests as bytes on a socket: what no decent client would send."""

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
    """Send a request as it is and read the answer until the server closes. `hang_up`: end the sending side after the last piece.

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
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return b""
