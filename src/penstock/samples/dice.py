"""Draws that depend on a key and on nothing else.

`random` promises the same numbers for a seed, but not the same choices between Python versions; and a record must be drawn without drawing
the ones before it, so that an article can name its author although no list of users is kept.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_ENOUGH = 1 << 64  # below this the number is used up and a new one is made, so that draws stay even


class Dice:
    """One record's draws. The same key gives the same draws in the same order, on every machine."""

    __slots__ = ("_key", "_number", "_turn")

    def __init__(self, *key: str | int) -> None:
        self._key = "/".join(map(str, key))
        self._turn = 0
        self._number = 0

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        if self._number < _ENOUGH:
            self._turn += 1
            self._number = int.from_bytes(blake2b(f"{self._key}#{self._turn}".encode(), digest_size=64).digest())
        self._number, drawn = divmod(self._number, limit)
        return drawn

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def percent(self, share: int) -> bool:
        """True in `share` of a hundred draws."""
        return self.below(100) < share


def uuid_for(*key: str | int) -> str:
    """A UUID (in the form of version 4) that belongs to this key."""
    h = blake2b("/".join(map(str, key)).encode(), digest_size=16).hexdigest()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
