"""What the C library keeps of memory that was given back."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
# With less kept, an export spends a fifth of its time on pages that it gave back a moment before.
_KEPT_BYTES = 16 * 1024 * 1024
_LARGE_BYTES = 8 * 1024 * 1024  # above the chunks of an import and the pieces of an export, not above the parts of an upload


def give_back_early() -> None:
    """For processes that run for long, before their threads begin. Nothing happens where the C library is not glibc.

    By default glibc keeps larger and larger blocks once some were freed: with each of the first uploads to a bucket a server kept 20 MiB
    more, up to 75 above idle; with fixed bounds it stays at some 20.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
