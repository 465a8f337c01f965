"""Standard input and pipes, kept as a file: an import reads its source twice when it is resumed, and a pipe can be read once.

`<data folder>/spool/stdin-<16 hex digits>`, mode 0600; it stays until its job is COMPLETED. Memory stays at one buffer.
"""

import errno
import fcntl
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

PREFIX = "stdin-"
_PART = ".part"
_BUFFER_BYTES = 1024 * 1024
_LEAST_FREE_BYTES = 512 * 1024 * 1024


def is_pipe(path: str) -> bool:
    """A named pipe, or what the shell's `<(...)` passes: to be read once, and so to be spooled."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def spool(stream: BinaryIO, data_dir: Path) -> Path:
    """Copy the stream to a file of its own and give its path. Raises OSError; then nothing is left behind."""
    folder = data_dir / "spool"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_leftovers(folder)
    path = folder / f"{PREFIX}{secrets.token_hex(8)}"
    part = path.with_name(path.name + _PART)
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            while block := stream.read(_BUFFER_BYTES):
                _leave_space(folder)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())  # the job that will name this file is durable, so the file must be
            part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


def _leave_space(folder: Path) -> None:
    """The embedded database may be on the same disk, and must not find it full."""
    if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, f"less than {_LEAST_FREE_BYTES >> 20} MiB would be left on the disk", str(folder))


def forget(source_name: str, data_dir: Path) -> None:
    """Remove the spooled file of a finished job; nothing happens for a job of any other file."""
    name = Path(source_name).name
    if name.startswith(PREFIX):
        (data_dir / "spool" / name).unlink(missing_ok=True)


def shown(source_name: str) -> str:
    """The name by which a person knows the file."""
    name = Path(source_name).name
    return "standard input" if name.startswith(PREFIX) and len(name) == len(PREFIX) + 16 else source_name


def _remove_leftovers(folder: Path) -> None:
    """What a killed process was still receiving: its lock went with it."""
    for part in folder.glob(f"{PREFIX}*{_PART}"):
        try:
            with part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
        except OSError:  # still being received, or gone meanwhile
            continue
