"""The file of an export, held against what its job says of it."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from penstock.errors import ServerUnreachableError
from penstock.jobs.model import Job


def save(chunks: Iterable[bytes], job: Job, target: Path | BinaryIO) -> None:
    """A link stays a link; a device or a pipe is written as it is, never replaced.

    Raises ServerUnreachableError for another size or digest than the job's; then there is no file. Raises OSError.
    """
    checked = _checked(chunks, job)
    if not isinstance(target, Path):
        target.writelines(checked)
        return
    place = target.resolve()
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if place.exists() and not place.is_file():
        with place.open("wb") as out:
            out.writelines(checked)
        return
    part = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as out:
            out.writelines(checked)
            out.flush()
            os.fsync(out.fileno())
        part.replace(place)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _checked(chunks: Iterable[bytes], job: Job) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if job.file is None or (size, digest.hexdigest()) != (job.file.size, job.file.sha256):
        raise ServerUnreachableError(
            "What came is not the file of the job: its size or its SHA-256 is another. Fetch it again.", job_id=job.job_id
        )
