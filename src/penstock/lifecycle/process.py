"""Which process works on a job, so that another one of the same machine can tell that it is gone before its lease is."""

import os
import socket
from functools import cache
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ProcessIdentity(msgspec.Struct, frozen=True):
    host: str  # name and boot of the machine
    pid: int
    started: str  # tells a process from a later one with the same number


@cache
def _host() -> str:
    boot = _BOOT_ID.read_text("ascii").strip() if _BOOT_ID.exists() else ""
    # Containers of one machine share its boot but not their process numbers.
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{boot}/{namespace.readlink() if namespace.exists() else ''}"


def this_process() -> ProcessIdentity:
    return ProcessIdentity(_host(), os.getpid(), _started(os.getpid()) or "")


def is_gone(process: ProcessIdentity) -> bool:
    """True only where it is certain: the same machine, and no such process any more. A zombie is gone: it can write nothing."""
    if process.host != _host() or not process.started:
        return False
    return not _is_hidden(process.pid) and _started(process.pid) != process.started


def _is_hidden(pid: int) -> bool:
    """Whether it lives where we may not look: /proc can keep the processes of other users to itself (proc(5), hidepid)."""
    if (_PROC / str(pid)).exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _started(pid: int) -> str | None:
    """Start time of a living process in clock ticks since boot (proc(5), stat, field 22)."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]
