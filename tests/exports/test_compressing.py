"""Pieces of bytes on their way out: the same bytes, in pieces of a bounded size, the same each time."""

import gzip
import random
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.exports.compressing import LEAST_BYTES, compressed
from penstock.sources.compression import Compression, compression_of

MOST_BYTES = 1_150_000
NOISE = random.Random(1).randbytes(5_000_000)


def unpacked(data: bytes, compression: Compression) -> bytes:
    match compression:
        case Compression.GZIP:
            return gzip.decompress(data)
        case Compression.ZSTD:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        case Compression.NONE:
            return data


@pytest.mark.parametrize("compression", Compression)
@given(sizes=st.lists(st.sampled_from([0, 1, 100, LEAST_BYTES - 1, LEAST_BYTES, LEAST_BYTES + 1, 2_500_000]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_the_same_bytes(compression: Compression, sizes: list[int]) -> None:
    """Unpacked, they are what went in; no piece is empty, only the last is small, none is large."""
    given_pieces = [NOISE[:size] for size in sizes]
    pieces = list(compressed(iter(given_pieces), compression))
    assert unpacked(b"".join(pieces), compression) == b"".join(given_pieces)
    assert all(LEAST_BYTES <= len(piece) <= MOST_BYTES for piece in pieces[:-1])
    assert all(0 < len(piece) <= MOST_BYTES for piece in pieces[-1:])


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_nothing_is_a_whole_file_of_nothing(compression: Compression) -> None:
    """An unpacker takes what stands for no bytes at all."""
    data = b"".join(compressed([], compression))
    assert compression_of(data) is compression
    assert unpacked(data, compression) == b""


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_the_same_each_time(compression: Compression) -> None:
    """No time or name goes into the file, and it does not matter how the bytes came."""
    text = b"id,name\n" * 100_000
    once = b"".join(compressed([text], compression))
    assert b"".join(compressed([text[:10], text[10:]], compression)) == once
    if compression is Compression.GZIP:
        assert once[4:8] == bytes(4)  # its time


@pytest.mark.parametrize("compression", Compression)
def test_views_are_taken(compression: Compression) -> None:
    """An encoder's memoryviews go in, bytes come out."""
    pieces = list(compressed([memoryview(b"abc"), memoryview(b"def")], compression))
    assert {type(piece) for piece in pieces} == {bytes}
    assert unpacked(b"".join(pieces), compression) == b"abcdef"


@pytest.mark.parametrize("compression", Compression)
def test_nothing_is_read_ahead(compression: Compression) -> None:
    """A piece is asked for only when what came before has been handed on."""
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for start in range(0, 32 * LEAST_BYTES, 4 * LEAST_BYTES):
            taken += 1
            yield NOISE[start : start + 4 * LEAST_BYTES]

    stream = compressed(pieces(), compression)
    handed = 0
    for piece in stream:
        handed += len(piece)
        # Of what is held back, a compressor keeps a block or two of 128 KiB.
        assert taken * 4 * LEAST_BYTES <= handed + 6 * LEAST_BYTES
    assert taken == 8
