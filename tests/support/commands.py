"""The command line as a user runs it: a process of its own, in an environment that holds nothing but what the test gives."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("penstock")
_KEPT = ("PATH", "TMPDIR", "SYSTEMROOT")
_END_SECONDS = 10


class Penstock:
    """Runs `penstock`; `end` kills what a test left running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[str]] = []

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        given: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. Raises subprocess.TimeoutExpired, after killing the process and its children."""
        process = self.start(*arguments, env=env, cwd=cwd)
        try:
            out, err = process.communicate(given, timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start and return at once; standard input, output and error are pipes."""
        process = subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            env={
                **{name: os.environ[name] for name in _KEPT if name in os.environ},
                "HOME": str(self.folder),
                "LANG": "C.UTF-8",
                **(env or {}),
            },
            cwd=cwd or self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def end(self) -> None:
        for process in self._running:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """The whole group: a child that outlived its parent would hold the pipes open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_END_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
