"""Gzip and zstd as streams: bounded memory whatever they unpack to, several members or frames, and a break told from an end."""

import zlib
from enum import StrEnum

import zstandard

from penstock.errors import TruncatedFileError
from penstock.sources.model import ByteStream

READ_BYTES = 64 * 1024
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_WINDOW_BYTES = 128 * 1024 * 1024  # what `zstd` itself accepts without --long
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def compression_of(head: bytes) -> Compression:
    """By the first bytes only: a name ending in .gz says nothing about a file that some client has unpacked already."""
    if head.startswith(GZIP_MAGIC):
        return Compression.GZIP
    if head.startswith(ZSTD_MAGIC) or int.from_bytes(head[:4], "little") in _SKIPPABLE:
        return Compression.ZSTD
    return Compression.NONE


def decompressed(stream: ByteStream, compression: Compression) -> ByteStream:
    match compression:
        case Compression.GZIP:
            return GzipStream(stream)
        case Compression.ZSTD:
            return ZstdStream(stream)
        case Compression.NONE:
            return stream


class GzipStream:
    """Members one after the other, zero padding between and behind them."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._pending = b""
        self._member: zlib._Decompress | None = None
        self._fault: TruncatedFileError | None = None

    def read(self, size: int, /) -> bytes:
        if self._fault:
            raise self._fault
        while True:
            if self._member is None and not self._next_member():
                return b""
            if out := self._inflate(size):
                return out

    def close(self) -> None:
        self._stream.close()

    def _next_member(self) -> bool:
        self._pending = self._pending.lstrip(b"\0")
        while len(self._pending) < len(GZIP_MAGIC) and (block := self._stream.read(READ_BYTES)):
            self._pending = (self._pending + block).lstrip(b"\0")
        if not self._pending:
            return False
        if not GZIP_MAGIC.startswith(self._pending[:2]):
            raise TruncatedFileError("the file goes on after the end of its gzip stream with something else")
        self._member = zlib.decompressobj(wbits=31)
        return True

    def _inflate(self, size: int) -> bytes:
        member = self._member
        assert member is not None
        given = self._pending or self._stream.read(READ_BYTES)
        if not given:
            self._fault = TruncatedFileError("the gzip stream is cut off before its end")
            if rest := member.flush():
                return rest
            raise self._fault
        before = member.copy()  # some microseconds; without it what one call unpacked before a break would be lost
        try:
            out = member.decompress(given, size)
        except zlib.error as fault:
            self._fault = TruncatedFileError(f"the gzip stream is damaged: {fault}")
            if whole := _until_broken(before, given):
                return whole
            raise self._fault from fault
        self._pending = member.unused_data if member.eof else member.unconsumed_tail
        if member.eof:
            self._member = None
        return out


def _until_broken(member: "zlib._Decompress", given: bytes) -> bytes:
    out = bytearray()
    try:
        for index in range(len(given)):
            out += member.decompress(given[index : index + 1])
    except zlib.error:
        pass
    return bytes(out)


class ZstdStream:
    """Frames one after the other, skippable ones among them.

    The blocks are walked here (RFC 8878, 3.1.1) and handed over one at a time. A block unpacks to 128 KiB at most, which bounds memory,
    where zstandard's `decompressobj` has no limit; and a stream that ends between two blocks shows, where its `stream_reader` just ends.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._raw = b""
        self._out = b""
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._checksum = False

    def read(self, size: int, /) -> bytes:
        while not self._out:
            if self._frame is None:
                if not self._next_frame():
                    return b""
            else:
                self._out = self._next_block(self._frame)
        out, self._out = self._out[:size], self._out[size:]
        return out

    def close(self) -> None:
        self._stream.close()

    def _have(self, size: int) -> bool:
        while len(self._raw) < size:
            if not (block := self._stream.read(max(READ_BYTES, size - len(self._raw)))):
                return False
            self._raw += block
        return True

    def _take(self, size: int) -> bytes:
        if not self._have(size):
            raise TruncatedFileError("the zstd stream is cut off before its end")
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken

    def _next_frame(self) -> bool:
        if not self._have(1):
            return False
        magic = self._take(4)
        if int.from_bytes(magic, "little") in _SKIPPABLE:
            self._skip(int.from_bytes(self._take(4), "little"))
            return True
        if magic != ZSTD_MAGIC:
            raise TruncatedFileError("the file goes on after the end of its zstd stream with something else")
        descriptor = self._take(1)
        flags = descriptor[0]
        single = flags >> 5 & 1
        rest = (0 if single else 1) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        self._checksum = bool(flags & 4)
        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        self._unpack(self._frame, magic + descriptor + self._take(rest))
        return True

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._take(min(size, READ_BYTES)))

    def _next_block(self, frame: "zstandard.ZstdDecompressionObj") -> bytes:
        header = self._take(3)
        word = int.from_bytes(header, "little")
        last, kind, size = word & 1, word >> 1 & 3, word >> 3
        out = self._unpack(frame, header + self._take(1 if kind == 1 else size))
        if last:
            self._frame = None
            if self._checksum:
                out += self._unpack(frame, self._take(4))
        return out

    def _unpack(self, frame: "zstandard.ZstdDecompressionObj", piece: bytes) -> bytes:
        try:
            return frame.decompress(piece)
        except zstandard.ZstdError as fault:
            raise TruncatedFileError(f"the zstd stream is damaged: {fault}") from fault
