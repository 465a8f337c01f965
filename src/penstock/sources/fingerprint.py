"""What is the same for the same bytes wherever they lie, and what tells that a file is another one."""

import hashlib
from collections.abc import Callable

from penstock.errors import FileChangedError
from penstock.sources.model import Identity

WHOLE_BYTES = 8 * 1024 * 1024  # up to this size the fingerprint covers every byte
EDGE_BYTES = 1024 * 1024
SAMPLES, SAMPLE_BYTES = 64, 64 * 1024


def fingerprint_of(size: int, sample: Callable[[int, int], bytes]) -> str:
    """`sample(offset, length)` reads so many bytes; at most 8 MiB are asked for, in file order."""
    digest = hashlib.sha256(f"{size}\0".encode())
    for offset, length in samples(size):
        digest.update(sample(offset, length))
    return digest.hexdigest()


def samples(size: int) -> list[tuple[int, int]]:
    """Offset and length of what the fingerprint covers: all of a small file; of a large one its edges and evenly spaced blocks."""
    if size <= WHOLE_BYTES:
        return [(0, size)]
    step = (size - 2 * EDGE_BYTES - SAMPLE_BYTES) // (SAMPLES - 1)
    inner = [(EDGE_BYTES + index * step, SAMPLE_BYTES) for index in range(SAMPLES)]
    return [(0, EDGE_BYTES), *inner, (size - EDGE_BYTES, EDGE_BYTES)]


def compare(name: str, expected: Identity, found: Identity) -> None:
    """Raises FileChangedError unless both are one file."""
    if found == expected:
        return
    changed = [part for part in Identity.__struct_fields__ if getattr(expected, part) != getattr(found, part)]
    raise FileChangedError(
        f"{name} is not the file it was when the import began ({', '.join(changed)} changed); import it anew",
        changed=changed,
    )
