"""A file on its way to a server: a multipart form whose last part is the file, made as it is sent, with flat memory."""

import os
import secrets
import select
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from penstock.errors import CancelledError, FileChangedError

_BLOCK_BYTES = 256 * 1024
# Ctrl-C reaches all of `producer | penstock import users -`: the pipe may end before our own signal is seen, and what came is not whole.
_PARTING_SECONDS = 0.1
_LOOK_SECONDS = 0.2  # how soon a cancel is seen while a pipe brings nothing

Sent = Callable[[int, int | None], None]  # bytes of the file that were sent, bytes that it has (None: not known)


class Upload:
    """The body of one request. Iterate it once for each attempt, after `restart` for every attempt but the first."""

    def __init__(
        self,
        source: Path | BinaryIO,
        name: str,
        fields: Mapping[str, str],
        *,
        sent: Sent | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """`source`: a file, opened for each attempt anew, or a stream, read from where it stands."""
        self._source = source
        self._sent, self._cancel = sent, cancel
        self._boundary = secrets.token_hex(16)
        self._head = self._form(fields, name)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()
        self._size = source.stat().st_size if isinstance(source, Path) and stat.S_ISREG(source.stat().st_mode) else None
        self._start = None if isinstance(source, Path) or not source.seekable() else source.tell()
        self._taken = False  # something was read that cannot be read again

    @property
    def headers(self) -> dict[str, str]:
        """Without a known size the body goes in chunks."""
        headers = {"Content-Type": f"multipart/form-data; boundary={self._boundary}"}
        if self._size is not None:
            headers["Content-Length"] = str(len(self._head) + self._size + len(self._tail))
        return headers

    def restart(self) -> bool:
        """Whether all of it can be sent once more."""
        if self._start is not None and not isinstance(self._source, Path):
            self._source.seek(self._start)
            return True
        return not self._taken

    def __iter__(self) -> Iterator[bytes]:
        """Raises CancelledError, and FileChangedError when the file has not the bytes that were announced; the form then stays open."""
        yield self._head
        done = 0
        with self._opened() as file:
            for block in self._blocks(file):
                done += len(block)
                self._check_size(done, file)
                yield block
                if self._sent:
                    self._sent(done, self._size)
            self._check_size(done, file, at_end=True)
        yield self._tail

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        return self._source.open("rb", buffering=0) if isinstance(self._source, Path) else nullcontext(self._source)

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        once = self._size is None and self._start is None
        ready = _readiness(file) if self._size is None else None
        read = getattr(file, "read1", file.read)  # what a pipe has, without waiting for a whole block
        while True:
            self._look()
            if ready is not None and not ready():
                continue
            self._taken = self._taken or once
            if not (block := read(_BLOCK_BYTES)):
                self._look(_PARTING_SECONDS if once else 0)
                return
            yield block

    def _look(self, seconds: float = 0) -> None:
        if self._cancel is not None and self._cancel.wait(seconds):
            raise CancelledError("Stopped while the file was being sent; the server keeps nothing of it.")

    def _check_size(self, done: int, file: BinaryIO, *, at_end: bool = False) -> None:
        if self._size is None:
            return
        if done > self._size or (at_end and (done < self._size or os.fstat(file.fileno()).st_size != self._size)):
            raise FileChangedError(f"{self._source} changed while it was being sent. Wait until nobody writes to it, and send it again.")

    def _form(self, fields: Mapping[str, str], name: str) -> bytes:
        parts = [f'Content-Disposition: form-data; name="{field}"\r\n\r\n{value}' for field, value in fields.items()]
        parts.append(
            f'Content-Disposition: form-data; name="file"; filename="{_quoted(name)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        return "\r\n".join(f"--{self._boundary}\r\n{part}" for part in parts).encode()


def _quoted(name: str) -> str:
    """As browsers write a file's name: quotes and line ends in percent."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _readiness(file: BinaryIO) -> Callable[[], bool] | None:
    """Whether a read would return at once; None for what has no descriptor to ask."""
    try:
        descriptor = file.fileno()
    except OSError:
        return None
    return lambda: bool(select.select([descriptor], [], [], _LOOK_SECONDS)[0])
