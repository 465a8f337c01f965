"""A process that stores: `python filler.py KEY MIB WHAT`, in an environment that names the storage.

WHAT is `whole` (it writes the object's size, and by how many bytes this process has grown at its largest), or `stuck`: after the last
byte it says so and waits to be killed.
"""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator

from penstock.storage import Key
from tests.support.storages import opened

MIB = 1024 * 1024


async def pieces(size: int, what: str) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield os.urandom(MIB)
    if what == "stuck":
        print("stuck", flush=True)  # noqa: T201 - the parent reads it
        await asyncio.Event().wait()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def main() -> None:
    key, size, what = Key(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    storage = opened(dict(os.environ))
    await storage.put(key, pieces(1, "whole"))  # what is made at the first use is no growth
    before = peak()
    made = await storage.put(key, pieces(size, what))
    print(made.size, peak() - before)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
