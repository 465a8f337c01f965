"""What the C library keeps of memory that was given back."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1024 * 1024
_LARGE_BYTES = 4 * 1024 * 1024  # above the chunks of an import, below the parts of an upload


def give_back_early() -> None:
    """For processes that run for long, before their threads begin. Nothing happens where the C library is not glibc.

    By default glibc keeps larger and larger blocks once some were freed: with each of the first uploads to a bucket a server kept 20 MiB
    more, up to 75 above idle; with fixed bounds it stays at 10.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
