"""The part of a text that is in memory: filled from its stream, shortened from the front as chunks leave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from penstock.errors import TruncatedFileError
from penstock.sources.model import ByteStream

SKIP_BYTES = 1024 * 1024
MOST_RECORDS = 30_000  # of a chunk: what is held for each of very small ones weighs more than their bytes
PREFIX_BYTES = 4096  # what is kept of a record that is too large to be held


@dataclass(slots=True)
class Window:
    """`data` starts at `offset`. After `ended` nothing follows; `fault` says that this is a break and not the end."""

    open_at: Callable[[int], ByteStream]
    offset: int
    data: bytes = b""
    ended: bool = False
    fault: TruncatedFileError | None = None
    _stream: ByteStream | None = field(default=None, repr=False)

    @property
    def complete(self) -> bool:
        """What stands last in `data` is there as a whole, line end or not."""
        return self.ended and self.fault is None

    def fill(self, size: int) -> None:
        """Hold at least `size` bytes, or all that are left."""
        pieces, held = [self.data], len(self.data)
        while held < size and not self.ended:
            block = self._read(size - held)
            pieces.append(block)
            held += len(block)
        if len(pieces) > 1:
            self.data = b"".join(pieces)

    def drop(self, size: int) -> None:
        self.data = self.data[size:]
        self.offset += size

    def replace(self, size: int) -> None:
        """Forget everything held and hold the next `size` bytes: for what is skipped."""
        self.drop(len(self.data))
        self.fill(size)
        self.settle()

    def settle(self) -> None:
        """Hold an LF with the CR that it belongs to."""
        while self.data.endswith(b"\r") and not self.ended:
            self.fill(len(self.data) + 1)

    def rewind(self, offset: int) -> None:
        """Go back to bytes that were forgotten already."""
        self.close()
        self.offset, self.data, self.ended, self.fault = offset, b"", False, None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self, size: int) -> bytes:
        try:
            if self._stream is None:
                self._stream = self.open_at(self.offset + len(self.data))
            block = self._stream.read(size)
        except TruncatedFileError as fault:
            self.fault, block = fault, b""
        self.ended = not block
        return block


@contextmanager
def window(open_at: Callable[[int], ByteStream], offset: int) -> Iterator[Window]:
    held = Window(open_at, offset)
    try:
        yield held
    finally:
        held.close()
