"""One program run to its end: how long it took as a whole process, and how much memory it held at its peak."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Command = Sequence[str | Path]
_POLL_SECONDS = 0.005  # what the time may be too long by: a thousandth of the shortest load
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class ProgramFailedError(Exception):
    """What a program said when it failed or took too long; `brief` says in a few words that it did."""

    def __init__(self, brief: str, said: str) -> None:
        super().__init__(f"{brief}\n{said}".strip())
        self.brief = brief


@dataclass(frozen=True, slots=True)
class Finished:
    """`seconds` from before the process was made until it was gone.

    `peak_bytes` is the resident memory of the largest process of those that it consisted of; None where that is not above our own, which
    the kernel counts in as long as the child has not yet become its program.
    """

    seconds: float
    peak_bytes: int | None
    status: int
    output: str


def timed(command: Command, *, env: Mapping[str, str] | None = None, limit_seconds: float, allowed: tuple[int, ...] = (0,)) -> Finished:
    """Run it in an empty folder, with `env` besides our environment. Raises ProgramFailedError for an exit status that is not `allowed`."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **(env or {})},
            cwd=folder,  # so that no .env and no data folder of the project has a part in it
            start_new_session=True,
        )
        status, usage = _wait(process, began + limit_seconds)
        seconds = time.perf_counter() - began
        output.seek(0)
        errors.seek(0)
        if status not in allowed:
            brief = f"not done after {limit_seconds:.0f} s" if seconds >= limit_seconds else f"failed with status {status}"
            raise ProgramFailedError(brief, (errors.read() + output.read())[-2000:])
        peak = usage.ru_maxrss
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Finished(seconds, peak * _MAXRSS_UNIT if peak > own else None, status, output.read())


def _wait(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, resource.struct_rusage]:
    """Only wait4 tells what one child used, and it has no time limit of its own, so it is asked again and again."""
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it once more
                return process.returncode, usage
            if time.perf_counter() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
    except BaseException:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
