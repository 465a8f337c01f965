"""Byte arithmetic over whole blocks: Polars over the bytes as they lie, without a copy, one SIMD pass per question.

`bytes.count` takes 1.1 ms for 4 MiB here, a comparison and a sum over the same bytes 0.06 ms.
"""

import polars as pl
import pyarrow as pa

from penstock.resources.arrow import ArrowArray

LF, CR, QUOTE, COLON = 10, 13, 34, 58


def octets(data: bytes) -> pl.Series:
    """UInt8, sharing the memory of `data`."""
    return pl.Series(ArrowArray(pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])))


def count_of(series: pl.Series, value: int) -> int:
    return int((series == value).sum())


def feed_count(data: bytes) -> int:
    """Line feeds: what ends a line in JSON, where a lone CR is space."""
    return count_of(octets(data), LF)


def line_count(data: bytes) -> int:
    """Line ends as a text editor sees them: LF, CRLF, or CR alone. A CRLF must not be split between two calls."""
    series = octets(data)
    lines = count_of(series, LF)
    if b"\r" in data:
        lines += count_of(series, CR) - data.count(b"\r\n")
    return lines


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def utf8_fault(data: bytes, encoding: str) -> str:
    """What the report says of bytes that are not text; `data` is not valid UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as fault:
        return f"{encoding.upper()} (at its byte {fault.start + 1})"
    raise ValueError("the bytes are valid UTF-8")
