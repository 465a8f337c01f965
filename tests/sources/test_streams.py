"""Decompressed and decoded streams: whole up to a break, bounded whatever they unpack to, readable from any offset."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import TruncatedFileError
from penstock.sources import ByteStream, open_source
from penstock.sources.compression import Compression, compression_of, decompressed
from penstock.sources.text import open_text

TEXT = b"".join(b"line %d of some text\n" % (n * 7919 % 9973) for n in range(30_000))
PACKERS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: bytes,
    Compression.GZIP: gzip.compress,
    Compression.ZSTD: zstandard.ZstdCompressor(write_checksum=True).compress,
}
PACKED = pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])


def stream_of(data: bytes) -> ByteStream:
    return decompressed(io.BytesIO(data), compression_of(data))


def drain(stream: ByteStream, size: int = 5000) -> tuple[bytes, str | None]:
    """All that can be read, and the fault that ended it."""
    pieces = []
    try:
        while piece := stream.read(size):
            assert len(piece) <= size
            pieces.append(piece)
    except TruncatedFileError as fault:
        return b"".join(pieces), fault.message
    return b"".join(pieces), None


@PACKED
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_unpacks(kind: Compression, size: int) -> None:
    """A stream unpacks to what was packed; several one after the other unpack to all of them."""
    packed = PACKERS[kind](TEXT)
    assert drain(stream_of(packed), size) == (TEXT, None)
    assert drain(stream_of(packed + PACKERS[kind](b"") + packed), size) == (TEXT * 2, None)


@PACKED
def test_every_cut_is_seen(kind: Compression) -> None:
    """A stream that is cut anywhere gives a part of its text and then an error; never an end."""
    packed = PACKERS[kind](TEXT[:3000])
    for cut in range(len(compression_magic(kind)), len(packed)):
        text, fault = drain(stream_of(packed[:cut]))
        assert TEXT.startswith(text)
        assert fault


def compression_magic(kind: Compression) -> bytes:
    return b"\x1f\x8b" if kind is Compression.GZIP else b"\x28\xb5\x2f\xfd"


def test_gzip_gives_all_before_the_break() -> None:
    """Up to a cut or a damaged byte every byte that the stream holds is delivered."""
    packed = gzip.compress(TEXT)
    assert drain(stream_of(packed[:-8])) == (TEXT, "the gzip stream is cut off before its end")
    assert drain(stream_of(packed[:-8] + b"12345678"))[0] == TEXT
    stored = gzip.compress(TEXT, compresslevel=0)
    for cut in (100, 50_000, 200_000):
        text, fault = drain(stream_of(stored[:cut]))
        assert fault
        assert cut - len(text) < 100


def test_zstd_gives_all_before_the_break() -> None:
    """Whole blocks before a damaged one are delivered."""
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)
    assert (
        drain(stream_of(packed[:-4])) == (TEXT, "the zstd stream is cut off before its end")
        or len(drain(stream_of(packed[:-4]))[0]) > len(TEXT) - 200_000
    )
    text, fault = drain(stream_of(packed[:-4] + b"1234"))
    assert fault
    assert len(text) > len(TEXT) - 200_000


@pytest.mark.parametrize("behind", [b"garbage", b"\0\0\0x", b"\x1f", TEXT])
def test_garbage_behind_gzip_is_an_error(behind: bytes) -> None:
    """What follows a gzip stream is another one, or zeros; anything else is an error after the text."""
    text, fault = drain(stream_of(gzip.compress(TEXT) + behind))
    assert (text, bool(fault)) == (TEXT, True)
    assert drain(stream_of(gzip.compress(TEXT) + b"\0" * 200_000)) == (TEXT, None)
    assert drain(stream_of(gzip.compress(TEXT) + b"\0" * 100_000 + gzip.compress(b"x"))) == (TEXT + b"x", None)


def test_zstd_frames_of_all_kinds() -> None:
    """Skippable frames, frames without checksum or size, blocks of one repeated byte."""
    skippable = b"\x50\x2a\x4d\x18" + (100_000).to_bytes(4, "little") + b"?" * 100_000
    plain = zstandard.ZstdCompressor(write_checksum=False, write_content_size=False).compress(TEXT)
    zeros = zstandard.compress(bytes(1_000_000))
    assert drain(stream_of(skippable + plain + skippable + zeros)) == (TEXT + bytes(1_000_000), None)
    assert drain(stream_of(plain + b"garbage"))[1]
    assert drain(stream_of(skippable[:-1]))[1]


@PACKED
def test_bombs_stream(kind: Compression) -> None:
    """What unpacks to a thousand times its size does so piece by piece."""
    bomb = PACKERS[kind](bytes(50_000_000))
    assert len(bomb) < 60_000
    stream, passed = stream_of(bomb), 0
    while piece := stream.read(1 << 20):
        assert len(piece) <= 1 << 20
        passed += len(piece)
    assert passed == 50_000_000


@given(
    text=st.text(st.sampled_from("aé€😀\n"), max_size=60),
    mark=st.booleans(),
    kind=st.sampled_from(Compression),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-16"]),
    offset=st.integers(0, 150),
    size=st.integers(1, 20),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_offset(tmp_path: Path, text: str, mark: bool, kind: Compression, encoding: str, offset: int, size: int) -> None:
    """From any offset in the decoded text exactly its rest is read, in whatever pieces; a byte order mark is no part of it."""
    path = tmp_path / "a"
    path.write_bytes(PACKERS[kind]((("\ufeff" if mark and encoding != "utf-16" else "") + text).encode(encoding)))
    stream = open_text(open_source(path), kind, encoding, offset)
    assert drain(stream, size) == (text.encode()[offset:], None)
    stream.close()


def test_what_cannot_be_decoded_is_never_text(tmp_path: Path) -> None:
    """Undecodable bytes become 0xFF, so that two of them never form a letter; what surrounds them is as it was."""
    path = tmp_path / "a"
    path.write_bytes(b"a\xc3\xa9b")
    stream = open_text(open_source(path), Compression.NONE, "ascii")
    assert drain(stream) == (b"a\xff\xffb", None)
    stream.close()
    path.write_bytes("a\ud800b".encode("utf-16-be", "surrogatepass") + b"\x00")
    stream = open_text(open_source(path), Compression.NONE, "utf-16-be")
    text = drain(stream)[0]
    stream.close()
    assert text.startswith(b"a\xff")
    assert text.endswith(b"\xff")
