"""Queued exports, in this process: one whole file or none, whoever runs, stops or breaks them."""

import gzip
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.crashpoints import CrashPoint
from penstock.errors import (
    ExportExpiredError,
    HandedOverError,
    InvalidStateError,
    JobNotFoundError,
    LeaseLostError,
)
from penstock.exports.model import Condition, Operator
from penstock.formats.model import Compression, Format
from penstock.jobs.model import Job, JobId, JobStatus, JobType
from penstock.lifecycle.claiming import Claim, Terms, claim, session_name
from penstock.queue import consumer
from penstock.storage import Key, StoredObject
from penstock.storage.local import LocalStorage
from penstock.storage.partial import PartialFile
from tests.exports.checker import Delivery, check_file, check_nothing, direct, keep, objects, when, wishes
from tests.support.waiting import until
from tests.workers.site import Site

COUNT = 1000


def run(site: Site, job: Job) -> Job:
    return site.application.exports.run(job.job_id, cancel=threading.Event())


def sessions(site: Site, job_id: JobId) -> list[dict[str, Any]]:
    return site.world.rows(f"SELECT pid, wait_event_type FROM pg_stat_activity WHERE application_name = '{session_name(job_id)}'")


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
def test_queued_export_is_carried(site: Site, form: Format, compression: Compression) -> None:
    """Its file has the bytes that a stream has, the name of its form, and nothing of it stays in the queue."""
    asked = wishes(form, compression)
    job = site.application.exports.create(asked, request_id="r-1")
    assert (job.type, job.status, job.queued, job.request_id, job.file) == (JobType.EXPORT, JobStatus.PENDING, True, "r-1", None)
    with site.working():
        site.finished(job.job_id)
        assert until(lambda: site.entries() == [])
    ending = {Compression.NONE: "", Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}[compression]
    assert check_file(site, job.job_id, direct(site, asked), COUNT).source_name == f"things.{form.value}{ending}"
    assert site.attempts(job.job_id) == ["COMPLETED"]


def test_records_of_a_filtered_export_are_counted(site: Site) -> None:
    """Those that were asked for, with what was asked for kept in the job."""
    asked = wishes(conditions=(Condition(name="title", operator=Operator.IN, values=("t1", "t2", "gone")),), fields=("title",))
    job = run(site, site.application.exports.create(asked))
    assert sorted(json.loads(line)["title"] for line in direct(site, asked).splitlines()) == ["t1", "t2"]
    assert check_file(site, job.job_id, direct(site, asked), 2).export is not None


def test_export_of_nothing_is_whole(site: Site) -> None:
    """No records: a header alone, counted as none."""
    site.world.execute("TRUNCATE things CASCADE")
    job = run(site, site.application.exports.create(wishes(Format.CSV)))
    check_file(site, job.job_id, (",".join(wishes().fields) + "\n").encode(), 0)


def test_job_that_a_rollback_takes_back_wakes_nobody(site: Site) -> None:
    """What `within` raises comes out; neither job nor entry stays."""

    def refuse(_connection: object, _job_id: object) -> None:
        raise InvalidStateError("no")

    with pytest.raises(InvalidStateError):
        site.application.exports.create(wishes(), within=refuse)
    assert site.world.rows("SELECT FROM penstock.jobs") == []
    assert site.entries() == []


def test_many_deliveries_are_one_run(site: Site) -> None:
    """Twenty entries for one job, over two workers: one attempt, one file."""
    job = site.application.exports.create(wishes())
    with site.world.database.connect() as connection:
        for _ in range(19):
            site.application.queue.wake(connection, job.job_id, JobType.EXPORT)
    with site.working(), site.working():
        site.finished(job.job_id)
        assert until(lambda: site.entries() == [])
    check_file(site, job.job_id, direct(site, wishes()), COUNT)
    assert site.attempts(job.job_id) == ["COMPLETED"]


def test_exports_and_imports_are_carried_side_by_side(site: Site) -> None:
    """Each by what runs it, whatever order they come in; neither can be run, cancelled or retried as the other."""
    export, imported = site.application.exports.create(wishes(fields=("code",))), site.job(50)
    with site.working():
        assert site.finished(export.job_id).status is JobStatus.COMPLETED
        assert site.finished(imported.job_id).status is JobStatus.COMPLETED
    with pytest.raises(JobNotFoundError, match="is no export"):
        site.application.exports.run(imported.job_id, cancel=threading.Event())
    with pytest.raises(JobNotFoundError, match="is no export"):
        site.application.exports.cancel(imported.job_id)
    with pytest.raises(JobNotFoundError, match="is no import"):
        site.application.imports.retry(export.job_id)


def test_entry_that_only_newer_workers_understand(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that knows no exports leaves theirs in the queue, unharmed and unclaimed, and carries imports."""
    job = site.application.exports.create(wishes())
    with monkeypatch.context() as patch:
        patch.setattr(consumer, "VERSION", 1)
        with site.working():
            site.finished(site.job(20).job_id)
            assert until(lambda: site.world.rows("SELECT FROM penstock.procrastinate_jobs WHERE scheduled_at > now()"))
        # A sweep that came while the entry was looked at may have put in another.
        assert (set(site.entries()), site.attempts(job.job_id)) == ({"todo"}, [])
    site.world.execute("UPDATE penstock.procrastinate_jobs SET scheduled_at = now()")
    with site.working():
        assert site.finished(job.job_id).status is JobStatus.COMPLETED


def test_waiting_export_is_cancelled_at_once(site: Site) -> None:
    """It was never counted, and its entry brings nobody to work on it; retried, it is carried."""
    job = site.application.exports.create(wishes())
    cancelled = site.application.exports.cancel(job.job_id)
    assert (cancelled.status, cancelled.total_rows) == (JobStatus.CANCELLED, None)
    with pytest.raises(InvalidStateError):
        site.application.exports.cancel(job.job_id)
    with site.working():
        assert until(lambda: site.entries() == [])
        assert site.attempts(job.job_id) == []
        assert site.application.exports.retry(job.job_id).status is JobStatus.PENDING
        site.finished(job.job_id)
    check_file(site, job.job_id, direct(site, wishes()), COUNT)


def test_cancelled_while_postgresql_makes_it_wait(site: Site) -> None:
    """However long the lease: whoever watches the export hears of it, and the statement under way is ended."""
    site.application = site.applied(IMPORT_JOB_LEASE_SECONDS="3600")
    job = site.application.exports.create(wishes())
    with site.world.database.connect() as blocking:
        blocking.execute("LOCK TABLE things")
        delivery = Delivery(site, job.job_id)
        assert until(lambda: any(s["wait_event_type"] == "Lock" for s in sessions(site, job.job_id)))
        site.application.exports.cancel(job.job_id)
        delivery.ended()
    check_nothing(site, job.job_id, JobStatus.CANCELLED)
    assert until(lambda: sessions(site, job.job_id) == [])


@pytest.mark.parametrize("point", [CrashPoint.JOB_CLAIMED, CrashPoint.EXPORT_COUNTED, CrashPoint.EXPORT_WRITTEN])
def test_told_to_stop(site: Site, point: CrashPoint) -> None:
    """By the caller, before, under way: cancelled without a file. Told when the file is whole, it may complete as well."""
    job, cancel = site.application.exports.create(wishes()), threading.Event()
    with when(point, cancel.set):
        done = site.application.exports.run(job.job_id, cancel=cancel)
    if point is CrashPoint.EXPORT_WRITTEN:
        assert done.status in (JobStatus.CANCELLED, JobStatus.COMPLETED)
    else:
        check_nothing(site, job.job_id, JobStatus.CANCELLED)


def test_cancel_before_completion(site: Site) -> None:
    """Whoever was told that the job will be cancelled finds it cancelled, also where its file was whole already."""
    job = site.application.exports.create(wishes())
    with when(CrashPoint.EXPORT_WRITTEN, lambda: site.application.exports.cancel(job.job_id)):
        run(site, job)
    check_nothing(site, job.job_id, JobStatus.CANCELLED)


def test_cancel_against_completion(site: Site) -> None:
    """The statement that completes is under way: a cancel waits for it, and is told that the job has ended."""
    job = site.application.exports.create(wishes())
    refused: list[BaseException] = []

    def cancel() -> None:
        with pytest.raises(InvalidStateError) as error:
            site.application.exports.cancel(job.job_id)
        refused.append(error.value)

    canceller = threading.Thread(target=cancel)

    def meanwhile() -> None:
        canceller.start()
        assert until(
            lambda: site.world.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        )

    with when(CrashPoint.EXPORT_COMPLETING, meanwhile):
        run(site, job)
    canceller.join(20)
    assert refused
    check_file(site, job.job_id, direct(site, wishes()), COUNT)


@pytest.mark.parametrize("point", [CrashPoint.JOB_CLAIMED, CrashPoint.EXPORT_COUNTED])
def test_handed_over(site: Site, point: CrashPoint) -> None:
    """It stops at once and leaves nothing; another attempt is woken, under an epoch of its own, and this one does not count."""
    job = site.application.exports.create(wishes())
    site.world.execute("DELETE FROM penstock.procrastinate_jobs")
    handover = threading.Event()
    with when(point, handover.set), pytest.raises(HandedOverError):
        site.application.exports.run(job.job_id, cancel=threading.Event(), handover=handover)
    check_nothing(site, job.job_id, JobStatus.PROCESSING)
    assert (site.attempts(job.job_id), site.entries()) == (["handed over"], ["todo"])
    assert site.world.rows("SELECT attempts, attempts_excused FROM penstock.jobs") == [{"attempts": 1, "attempts_excused": 1}]
    with site.working():
        site.finished(job.job_id)
    check_file(site, job.job_id, direct(site, wishes()), COUNT)


@pytest.mark.parametrize("point", [CrashPoint.EXPORT_COUNTED, CrashPoint.EXPORT_WRITTEN])
def test_attempt_that_lost_its_lease(site: Site, point: CrashPoint) -> None:
    """Another attempt completes the job while this one stands still: it publishes nothing, and what it wrote goes."""
    job = site.application.exports.create(wishes())

    def lose() -> None:
        site.world.execute("UPDATE penstock.attempts SET lease_until = now() - interval '1 second', process_started = 'gone'")
        other = site.applied()  # as in another process, which has permits of its own
        assert other.exports.run(job.job_id, cancel=threading.Event()).status is JobStatus.COMPLETED

    with when(point, lose), pytest.raises(LeaseLostError):
        run(site, job)
    assert site.attempts(job.job_id) == ["lost", "COMPLETED"]
    content = direct(site, wishes())
    assert [key for key in objects(site) if f"{job.job_id}/1/" in key] == []
    assert site.world.rows("SELECT key FROM penstock.files WHERE key LIKE 'exports/%/1/%'") == []
    check_file(site, job.job_id, content, COUNT)


@pytest.mark.parametrize("point", [CrashPoint.EXPORT_COUNTED, CrashPoint.EXPORT_WRITTEN])
def test_late_attempt_while_another_is_under_way(site: Site, monkeypatch: pytest.MonkeyPatch, point: CrashPoint) -> None:
    """The job is another's, and unfinished: nothing is written into it, and no object is published once the lease is lost."""
    published: list[str] = []
    real = LocalStorage._publish

    def publish(self: LocalStorage, partial: PartialFile, key: Key, target: Path) -> StoredObject:
        published.append(key)
        return real(self, partial, key, target)

    monkeypatch.setattr(LocalStorage, "_publish", publish)
    job = site.application.exports.create(wishes())
    taken: list[Claim | None] = []

    def lose() -> None:
        site.world.execute("UPDATE penstock.attempts SET lease_until = now() - interval '1 second', process_started = 'gone'")
        with site.world.database.connect(autocommit=True) as connection:
            taken.append(claim(connection, job.job_id, Terms(lease_seconds=3600, file_hours=1), cancel=threading.Event()))

    with when(point, lose), pytest.raises(LeaseLostError):
        run(site, job)
    assert [claimed and claimed.epoch for claimed in taken] == [2]
    assert published == ([] if point is CrashPoint.EXPORT_COUNTED else [f"exports/{job.job_id}/1/things.ndjson"])
    check_nothing(site, job.job_id, JobStatus.PROCESSING)
    assert site.world.rows("SELECT epoch FROM penstock.attempts WHERE ended_at IS NULL") == [{"epoch": 2}]


def test_second_attempt_is_refused_at_once(site: Site) -> None:
    """A delivery does not wait for the lease of an attempt that lives."""
    job = site.application.exports.create(wishes())

    def again() -> None:
        with pytest.raises(InvalidStateError):
            run(site, job)

    with when(CrashPoint.EXPORT_COUNTED, again):
        run(site, job)
    check_file(site, job.job_id, direct(site, wishes()), COUNT)


def test_last_attempt_fails_the_job(site: Site) -> None:
    """What was tried MAX_JOB_ATTEMPTS times is set aside, and what its attempts left is past its time."""
    job = site.application.exports.create(wishes())
    key = Key(f"exports/{job.job_id}/1/things.ndjson")
    site.application.storage.write(key, [b"left by a process that was killed"])
    site.world.execute(
        f"INSERT INTO penstock.files (key, kind, name, job_id, expires_at)"
        f" VALUES ('{key}', 'EXPORT', 'things.ndjson', '{job.job_id}', now() + interval '1 day')"
    )
    site.world.execute("UPDATE penstock.jobs SET status = 'PROCESSING', attempts = 5")
    keep(site)
    assert objects(site) == [key]  # its job is unfinished
    done = site.application.exports.run(job.job_id, cancel=threading.Event(), max_attempts=5)
    assert done.error is not None
    assert done.error.code == "too_many_attempts"
    keep(site)
    check_nothing(site, job.job_id, JobStatus.FAILED)


def test_link_leads_to_the_file(site: Site) -> None:
    """Made anew each time, under the file's name, for LINK_SECONDS and never for longer than the file is there."""
    exports = site.application.exports
    job = exports.create(wishes(Format.CSV, Compression.GZIP))
    with pytest.raises(InvalidStateError, match="PENDING"):
        exports.link(job)
    done = run(site, job)
    link = exports.link(done)
    assert "filename=things.csv.gz" in link.url
    assert link.expires_at - datetime.now(UTC) <= timedelta(seconds=site.application.settings.link_seconds)
    assert done.file is not None
    assert gzip.decompress(b"".join(site.application.storage.read(Key(done.file.key)))) == direct(site, wishes(Format.CSV))
    soon = "to_jsonb(now() + interval '60 seconds')"
    site.world.execute(f"UPDATE penstock.jobs SET result = jsonb_set(result, '{{expires_at}}', {soon})")
    assert exports.link(exports.get(job.job_id)).expires_at <= datetime.now(UTC) + timedelta(seconds=61)


def test_file_goes_after_its_hours(site: Site) -> None:
    """FILE_RETENTION_HOURS after the end of its job, which stays and says so."""
    exports = site.application.exports
    done = run(site, exports.create(wishes()))
    assert done.file is not None
    assert done.finished_at is not None
    assert done.file.expires_at - done.finished_at == timedelta(hours=168)
    keep(site)
    assert objects(site) == [done.file.key]
    site.world.execute(
        "UPDATE penstock.files SET expires_at = now() - interval '1 second';"
        "UPDATE penstock.jobs SET result = jsonb_set(result, '{expires_at}', to_jsonb(now() - interval '1 second'))"
    )
    keep(site)
    assert objects(site) == []
    late = exports.get(done.job_id)
    assert late.status is JobStatus.COMPLETED
    with pytest.raises(ExportExpiredError):
        exports.link(late)


def test_files_of_exports_in_a_folder_of_their_own(site: Site, tmp_path: Path) -> None:
    """With EXPORT_DIR they lie there, and go from there."""
    site.application = site.applied(EXPORT_DIR=str(tmp_path / "exported"))
    done = run(site, site.application.exports.create(wishes()))
    path = tmp_path / "exported" / done.job_id / "1" / "things.ndjson"
    assert path.read_bytes() == direct(site, wishes())
    assert not (site.folder / "data" / "storage" / "exports").exists()
    assert done.file is not None
    assert site.application.exports.link(done).url.startswith(f"/v1/storage/exports/{done.job_id}/1/things.ndjson?")
    site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
    keep(site)
    assert not path.exists()
