"""Every place where a test lets the process die, in one registry.

`CRASH_AT=name:hit` ends the process with SIGKILL the hit-th time it comes by; `PAUSE_AT=name:hit` stops it with SIGSTOP, as a machine
does that sleeps. Without these variables `reach` does nothing.
"""

import os
import signal
import time
from collections import Counter
from enum import StrEnum


class CrashPoint(StrEnum):
    JOB_CREATED = "job-created"
    JOB_CLAIMED = "job-claimed"
    WAVE_PREPARED = "wave-prepared"
    WAVE_PLANNED = "wave-planned"
    FREE_COPIED = "free-copied"  # rows of a partition are in the table, not committed
    PARTITION_MERGED = "partition-merged"  # rows, rejected records and receipt written, not committed
    PARTITION_COMMITTED = "partition-committed"
    TIED_APPLIED = "tied-applied"  # the tied records of a wave applied, not committed
    WAVE_DONE = "wave-done"
    JOB_COMPLETING = "job-completing"  # the books are closed, not committed
    JOB_COMPLETED = "job-completed"
    SOURCE_FETCHED = "source-fetched"  # from its URL into storage; the job does not know of it yet
    JOB_HANDED_OVER = "job-handed-over"
    REPORT_PACKED = "report-packed"  # in storage; the job does not know of it yet
    REPORT_PUBLISHED = "report-published"
    EXPORT_COUNTED = "export-counted"  # its snapshot stands and its file is noted; no byte is written
    EXPORT_WRITTEN = "export-written"  # in storage, whole; the job does not know of it yet
    EXPORT_COMPLETING = "export-completing"  # the job has its file, not committed
    EXPORT_COMPLETED = "export-completed"
    EVENTS_STORED = "events-stored"  # the group is committed, and none of its senders knows
    EVENTS_APPLIED = "events-applied"  # to the products, not committed
    EVENTS_COMMITTED = "events-committed"  # the log may not know of it yet
    DEAD_LETTERS_RETURNED = "dead-letters-returned"  # they are in the log again, and still dead letters
    FILE_REMOVED = "file-removed"  # from storage; its row still stands


def _nothing(_point: CrashPoint) -> None:
    """Production's answer."""


def _armed(order: str, with_signal: signal.Signals) -> None:
    name, _, hit = order.partition(":")
    point, remaining = CrashPoint(name), int(hit or 1)
    seen: Counter[CrashPoint] = Counter()
    armed_before = _reach

    def act(reached: CrashPoint) -> None:
        armed_before(reached)
        seen[reached] += 1
        if reached is point and seen[reached] == remaining:
            os.kill(os.getpid(), with_signal)
            time.sleep(0.2)  # a stop may reach another thread first, and this one a moment later

    globals()["_reach"] = act


_reach = _nothing
for _variable, _signal in (("CRASH_AT", signal.SIGKILL), ("PAUSE_AT", signal.SIGSTOP)):
    if _variable in os.environ:
        _armed(os.environ[_variable], _signal)


def reach(point: CrashPoint) -> None:
    _reach(point)
