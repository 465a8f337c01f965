"""What waits for somebody else's machine is done for a few requests at once, so that it cannot keep all threads from the others."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import OverloadedError

URLS_AT_ONCE = 8  # half of the threads
_urls = threading.BoundedSemaphore(URLS_AT_ONCE)


@contextmanager
def one_of_few() -> Iterator[None]:
    """Around asking for a name, or for what is behind a URL. Raises OverloadedError."""
    if not _urls.acquire(blocking=False):
        raise OverloadedError(f"The server looks at {URLS_AT_ONCE} other file_urls, which is its limit. Try again in a moment.")
    try:
        yield
    finally:
        _urls.release()
