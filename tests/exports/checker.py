"""One checker for every test that breaks exports: a completed one has one whole file, of what the database held; no other leaves any."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from penstock import crashpoints
from penstock.crashpoints import CrashPoint
from penstock.exports.model import ExportWishes
from penstock.formats.model import Compression, Format
from penstock.jobs.model import Job, JobId, JobStatus
from penstock.storage import EXPORTS, Key
from penstock.workers.housekeeping import Housekeeping
from tests.imports.world import World
from tests.workers.site import Site

FIELDS = ("id", "code", "title", "note", "state", "released_at", "parts")


def wishes(form: Format = Format.NDJSON, compression: Compression = Compression.NONE, **more: Any) -> ExportWishes:
    return ExportWishes(**{"resource": "things", "format": form, "fields": FIELDS, "compression": compression, **more})


def fill(world: World, count: int = 1000) -> None:
    """Things, each with a code, an id and a title of its own."""
    world.execute(
        "INSERT INTO things (id, code, title, note, state) SELECT md5(n::text)::uuid,"
        " translate(lpad(n::text, 7, '0'), '0123456789', 'abcdefghij'), 't' || n, repeat('n', 100), 'draft'"
        f" FROM generate_series(1, {count}) n"
    )


def direct(site: Site, asked: ExportWishes) -> bytes:
    """The same as a stream."""
    with site.application.exports.export(asked) as export:
        return b"".join(export.pieces())


def objects(site: Site) -> list[str]:
    return [found.key for found in site.application.storage.list(EXPORTS)]


def keep(site: Site) -> None:
    Housekeeping(site.application, threading.Event()).keep()


def check_file(site: Site, job_id: JobId, content: bytes, count: int) -> Job:
    """After housekeeping there is one object, of the last attempt, which the job and its row describe."""
    keep(site)
    job = site.get(job_id)
    assert job.status is JobStatus.COMPLETED, site.story(job_id)
    assert (job.processed_rows, job.total_rows) == (count, count)
    file = job.file
    assert file is not None
    (epoch,) = (row["epoch"] for row in site.world.rows(f"SELECT epoch FROM penstock.fences WHERE job_id = '{job_id}'"))
    assert file.key == f"{EXPORTS}{job_id}/{epoch}/{job.source_name}"
    assert [key for key in objects(site) if job_id in key] == [file.key]
    stored = b"".join(site.application.storage.read(Key(file.key)))
    assert stored == content
    assert (file.size, file.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    (row,) = site.world.rows(f"SELECT key, kind, size, sha256, expires_at FROM penstock.files WHERE job_id = '{job_id}'")
    assert row == {"key": file.key, "kind": "EXPORT", "size": file.size, "sha256": file.sha256, "expires_at": file.expires_at}
    return job


def check_nothing(site: Site, job_id: JobId, status: JobStatus) -> Job:
    """It ended without a file, and nothing is left, in storage or on its way there, also before housekeeping."""
    job = site.get(job_id)
    assert job.status is status, site.story(job_id)
    assert job.file is None
    assert [key for key in objects(site) if job_id in key] == []
    assert site.world.rows(f"SELECT key FROM penstock.files WHERE job_id = '{job_id}'") == []
    assert list((site.folder / "data" / "storage" / ".partial").iterdir()) == []
    return job


@contextmanager
def when(point: CrashPoint, act: Callable[[], object]) -> Iterator[None]:
    """Do this the first time that this process comes by."""
    acts = [act]

    def reach(reached: CrashPoint) -> None:
        if reached is point and acts:
            acts.pop()()

    with patch.object(crashpoints, "_reach", reach):
        yield


class Delivery:
    """One delivery of a job in a thread of its own. `result` once it has ended."""

    def __init__(self, site: Site, job_id: JobId, *, max_attempts: int | None = None) -> None:
        self.cancel, self.handover = threading.Event(), threading.Event()
        self.result: Job | BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[site, job_id, max_attempts], name="delivery")
        self._thread.start()

    def _run(self, site: Site, job_id: JobId, max_attempts: int | None) -> None:
        try:
            self.result = site.application.exports.run(job_id, cancel=self.cancel, handover=self.handover, max_attempts=max_attempts)
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.result = error

    def ended(self, seconds: float = 20) -> Job | BaseException:
        self._thread.join(seconds)
        assert self.result is not None
        return self.result
