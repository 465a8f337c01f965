"""What an attempt has around it: what its process lends it, what others may ask of it, whom it tells how far it is."""

import os
from dataclasses import dataclass

import msgspec

from penstock.database.connect import Database
from penstock.jobs.model import JobId
from penstock.lifecycle.gate import Gate
from penstock.queue import Queue
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.sources import Sources


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running import is; sent after each wave."""

    job_id: JobId
    processed_rows: int
    failed_rows: int
    processed_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process lends to its attempts."""

    database: Database
    registry: Registry
    settings: Settings
    sources: Sources
    queue: Queue
    partitions: int
    gate: Gate | None = None  # None: this process carries one import at a time


def default_partitions(workers: int) -> int:
    """Two were fastest on two cores: 1.5 to 1.7 times psql's copy, against 1.25 with one and 1.4 with four. More cores carry a few more."""
    return max(1, min(workers, 4, max(2, (os.cpu_count() or 2) // 2)))
