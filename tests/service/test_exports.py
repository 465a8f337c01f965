"""Queued exports beside imports that commit, and with a bucket: one state of the database in each file, one file for each job."""

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.bootstrap import Application
from penstock.crashpoints import CrashPoint
from penstock.exports.model import ExportWishes
from penstock.formats.model import Compression, Format, ReadOptions
from penstock.jobs.model import ImportOptions, JobId, Mode
from penstock.settings import load_settings
from penstock.storage import EXPORTS, Key
from penstock.workers.housekeeping import Housekeeping
from tests.exports.checker import fill, wishes
from tests.imports.checker import letters
from tests.imports.world import ignore
from tests.service.on_s3 import Fleet
from tests.service.test_fleet import stopped
from tests.support.buckets import Bucket
from tests.support.waiting import until
from tests.workers.site import Site

PAIRS, EXPORTED = 3000, 8
COUNT = 20_000


@contextmanager
def importing(site: Site) -> Iterator[list[int]]:
    """Imports without end: each gives every thing a new title, in one transaction, and makes two more. Yields the numbers of those done."""
    done: list[int] = []
    over = threading.Event()

    def run() -> None:
        number = 0
        while not over.is_set():
            number += 1
            codes = [letters(n) for n in range(PAIRS)] + [letters(PAIRS + 2 * n + half) for n in range(number) for half in (0, 1)]
            path = site.file(({"code": code, "title": f"t{number}"} for code in codes), f"{number}.ndjson")
            options = ImportOptions(atomic=True, mode=Mode.UPSERT)
            job = site.application.imports.create("things", str(path), read=ReadOptions(), options=options)
            site.application.imports.run(job.job_id, progress=ignore, cancel=threading.Event())
            done.append(number)

    thread = threading.Thread(target=run, name="importing")
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join(60)


def stored(application: Application, job_id: JobId) -> bytes:
    """The file of a completed export, which is what the job says of it."""
    job = application.exports.get(job_id)
    assert job.file is not None, job
    content = b"".join(application.storage.read(Key(job.file.key)))
    assert (job.file.size, job.file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert job.processed_rows == job.total_rows
    return content


@pytest.mark.parametrize("form", [Format.NDJSON, Format.CSV])
def test_one_snapshot_under_imports(durable_database: str, tmp_path: Path, form: Format) -> None:
    """While imports commit, each file holds the records of one moment: all titles of one import, as many as it had brought by then."""
    site = Site(durable_database, tmp_path)
    asked = wishes(form, fields=("code", "title"))
    with site.working(), importing(site) as done:
        assert until(lambda: done)
        for _ in range(EXPORTED):
            began = len(done)
            job = site.application.exports.create(asked)
            site.finished(job.job_id)
            lines = stored(site.application, job.job_id).decode().splitlines()
            rows = [json.loads(line) for line in lines] if form is Format.NDJSON else [{"title": x.split(",")[1]} for x in lines[1:]]
            (title,) = {row["title"] for row in rows}
            number = int(title.removeprefix("t"))
            assert began <= number <= len(done) + 1
            assert len(rows) == PAIRS + 2 * number == site.get(job.job_id).total_rows
    site.close()


def asked() -> ExportWishes:
    return wishes(Format.CSV, Compression.ZSTD)


@pytest.mark.parametrize("point", [CrashPoint.EXPORT_COUNTED, CrashPoint.EXPORT_WRITTEN, CrashPoint.EXPORT_COMPLETING])
def test_killed_with_a_bucket(fleet: Fleet, bucket: Bucket, point: CrashPoint) -> None:
    """Another worker completes the job; after housekeeping one object is left, and no upload that is not whole."""
    with at_home(fleet) as application:
        job = application.exports.create(asked())
        with fleet.working("dying", CRASH_AT=point) as dying:
            dying.process.wait(30)
        with fleet.working():
            fleet.ended(job.job_id)
        Housekeeping(application, threading.Event()).keep()
        content = stored(application, job.job_id)
        with application.exports.export(asked()) as export:
            assert b"".join(export.pieces()) == content
        assert bucket.objects() == [f"{EXPORTS}{job.job_id}/2/things.csv.zst"] == fleet.files()
        assert bucket.pending() == []


def test_sleeper_with_a_bucket(fleet: Fleet, bucket: Bucket) -> None:
    """Stopped past its lease with a whole object that the job does not know of: it wakes up, and removes that."""
    with at_home(fleet) as application:
        job = application.exports.create(asked())
        with fleet.working("sleeping", PAUSE_AT=CrashPoint.EXPORT_WRITTEN) as sleeping:
            assert until(lambda: stopped(sleeping.process.pid))
            with fleet.working():
                fleet.ended(job.job_id)
            assert len(bucket.objects()) == 2
            sleeping.process.send_signal(signal.SIGCONT)
            assert until(lambda: sleeping.log.says("late work dropped: another attempt has the job"))
        assert bucket.objects() == [f"{EXPORTS}{job.job_id}/2/things.csv.zst"] == fleet.files()
        stored(application, job.job_id)


@contextmanager
def at_home(fleet: Fleet) -> Iterator[Application]:
    """The services in this process, with things to export."""
    settings = load_settings(fleet.environment("here"), Path("/nonexistent"))
    application = Application(settings, fleet.world.registry, fleet.world.database)
    fill(fleet.world, COUNT)
    yield application
