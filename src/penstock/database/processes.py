"""What the system knows of a process by its id: from /proc where there is one, else from ps."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not: its parent, or a container's first process, may never reap it."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # reaps it if it is ours
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) not in ("Z", "X", "")


def _state(pid: int) -> str:
    try:
        # "pid (name) state ...": the name may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "" if Path("/proc/self").is_dir() else _ps(pid, "stat")[:1]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="surrogateescape")
    except OSError:
        return _ps(pid, "command")


def _ps(pid: int, column: str) -> str:
    done = subprocess.run(["/bin/ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603 - a number
    return done.stdout.strip()
