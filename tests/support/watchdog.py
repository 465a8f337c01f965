"""Clears a test run away: `python watchdog.py FOLDER`, with a pipe from the run as standard input.

When the pipe closes, because the run ended or was killed, it ends the PostgreSQL and NATS servers below the folder and removes it. Standard
library only, so that it starts in milliseconds.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

ENDED = b"ended"  # what a run that ends by itself writes into the pipe
NATS_PID_FILE = "nats-server.pid"


def end_server(pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        os.kill(pid, signal.SIGQUIT)  # the data is thrown away
    except (OSError, ValueError):
        return
    for _ in range(500):
        if not pid_file.exists():
            return
        time.sleep(0.01)


def end_nats(pid_file: Path) -> None:
    try:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        pid_file.unlink()
    except (OSError, ValueError):
        return


def clear(folder: Path) -> None:
    for pid_file in folder.glob("**/postgres/postmaster.pid"):
        end_server(pid_file)
    for pid_file in folder.glob(f"**/{NATS_PID_FILE}"):
        end_nats(pid_file)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    folder = Path(sys.argv[1])
    # Ctrl-C is for the run; its end shows here as the end of the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    killed = sys.stdin.buffer.read() != ENDED
    clear(folder)
    # The workers of a run that was killed live on for a moment, and may make new files and servers.
    for _ in range(20 if killed else 0):
        time.sleep(0.2)
        clear(folder)


if __name__ == "__main__":
    main()
