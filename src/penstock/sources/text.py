"""A source as UTF-8 text from any decoded offset on."""

from penstock.sources.compression import Compression, decompressed
from penstock.sources.encoding import UTF8, UTF8_BOM, Transcoder
from penstock.sources.model import ByteStream, Source

_SKIP_BYTES = 1024 * 1024


def open_text(source: Source, compression: Compression, encoding: str, offset: int = 0) -> ByteStream:
    """UTF-8 bytes from `offset` on, counted in the decompressed text as UTF-8 without its byte order mark.

    Plain UTF-8 seeks; anything else is read again from its start and dropped up to there. An offset past the end gives an empty stream.
    """
    if compression is Compression.NONE and encoding == UTF8:
        return source.open(offset + _bom_bytes(source))
    stream = decompressed(source.open(), compression)
    text: ByteStream = _WithoutBom(stream) if encoding == UTF8 else Transcoder(stream, encoding)
    _drop(text, offset)
    return text


def _bom_bytes(source: Source) -> int:
    stream = source.open()
    try:
        return len(UTF8_BOM) if stream.read(len(UTF8_BOM)) == UTF8_BOM else 0
    finally:
        stream.close()


def _drop(stream: ByteStream, size: int) -> None:
    while size and (block := stream.read(min(size, _SKIP_BYTES))):
        size -= len(block)


class _WithoutBom:
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._begun = False
        self._held = b""

    def read(self, size: int, /) -> bytes:
        if not self._begun:
            self._begun = True
            self._hold_head()
        if not self._held:
            return self._stream.read(size)
        out, self._held = self._held[:size], self._held[size:]
        return out

    def _hold_head(self) -> None:
        head = b""
        while len(head) < len(UTF8_BOM) and (block := self._stream.read(len(UTF8_BOM) - len(head))):
            head += block
        self._held = head.removeprefix(UTF8_BOM)

    def close(self) -> None:
        self._stream.close()
