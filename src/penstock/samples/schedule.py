"""Which records of a file are spoiled, and how: known from the record's number alone, so that no file is held in memory.

Records go by in blocks of 20. In every block but the first one record is spoiled, the faults taking turns: 5 % of the file. In users.csv
one block in five also holds a record that completes an earlier user.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.samples.dice import Dice

BLOCK = 20
COMPLETION_EVERY = 5  # blocks
COMPLETION_DISTANCE = 2  # blocks between a user and the record that completes it

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to spoil a record. `codes` has one code for each problem that the import must then report.

    `spoil` takes the good record, draws and the record's number, and gives the spoiled record, or the bytes of what is no record any more.
    """

    codes: tuple[str, ...]
    spoil: Callable[[Record, Dice, int], Record | bytes]


def fault_at(number: int, name: str, faults: Sequence[Fault]) -> Fault | None:
    block = number // BLOCK
    if block == 0 or number != _spoiled(block, name):
        return None
    return faults[(block - 1) % len(faults)]


def is_spoiled(number: int, name: str) -> bool:
    block = number // BLOCK
    return block > 0 and number == _spoiled(block, name)


def _spoiled(block: int, name: str) -> int:
    return block * BLOCK + Dice("spoiled", name, block).below(BLOCK)


def completes(number: int, name: str) -> int | None:
    """The number of the earlier record that this one completes, if it does."""
    block, place = divmod(number, BLOCK)
    if block % COMPLETION_EVERY != COMPLETION_EVERY - 1 or place != (_spoiled(block, name) + 7) % BLOCK:
        return None
    return _completed_in(block - COMPLETION_DISTANCE, name)


def is_completed_later(number: int, name: str) -> bool:
    block = number // BLOCK
    return (block + COMPLETION_DISTANCE) % COMPLETION_EVERY == COMPLETION_EVERY - 1 and number == _completed_in(block, name)


def _completed_in(block: int, name: str) -> int:
    return block * BLOCK + (_spoiled(block, name) + 3) % BLOCK


def earlier(number: int, dice: Dice, usable: Callable[[int], bool]) -> int:
    """A record of an earlier block for which `usable` holds."""
    limit = number // BLOCK * BLOCK
    return drawn(limit, dice, usable)


def drawn(limit: int, dice: Dice, usable: Callable[[int], bool]) -> int:
    """A record number below `limit` for which `usable` holds: the first from a drawn place on."""
    start = dice.below(limit)
    return next(n % limit for n in range(start, start + limit) if usable(n % limit))
