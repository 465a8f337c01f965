"""Queued jobs, carried by a worker in this process."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock.errors import HandedOverError, InvalidStateError
from penstock.formats.model import ReadOptions
from penstock.imports import free
from penstock.imports.free import insert_new
from penstock.imports.ledger import Ledger
from penstock.imports.service import Imports
from penstock.jobs.model import ImportOptions, JobStatus, JobType
from penstock.lifecycle.attempt import hand_over
from penstock.lifecycle.claiming import Terms, claim
from penstock.lifecycle.gate import Gate
from penstock.workers.sweeping import Sweeper
from tests.imports.checker import check, letters
from tests.imports.world import ignore
from tests.support.waiting import until
from tests.workers.site import COUNT, Site


def sweep(site: Site) -> None:
    Sweeper(site.application).sweep()


def test_queued_job_is_carried(site: Site) -> None:
    """It comes to a worker, ends with closed books, and nothing of it stays in the queue."""
    job = site.job()
    assert (job.status, job.queued, site.entries()) == (JobStatus.PENDING, True, ["todo"])
    with site.working():
        site.finished(job.job_id)
        assert until(lambda: site.entries() == [])
    check(site.world, job.job_id, COUNT)
    assert site.attempts(job.job_id) == ["COMPLETED"]


def test_job_that_a_rollback_takes_back_wakes_nobody(site: Site) -> None:
    """What `within` raises comes out; neither job nor entry stays."""

    def refuse(_connection: object, _job_id: object) -> None:
        raise InvalidStateError("no")

    path = str(site.file([{"code": "a", "title": "t"}]))
    with pytest.raises(InvalidStateError):
        site.application.imports.create("things", path, read=ReadOptions(), options=ImportOptions(), queued=True, within=refuse)
    assert site.world.rows("SELECT FROM penstock.jobs") == []
    assert site.entries() == []


def test_many_deliveries_are_one_run(site: Site) -> None:
    """Twenty entries for one job, over two workers: one attempt."""
    job = site.job()
    with site.world.database.connect() as connection:
        for _ in range(19):
            site.application.queue.wake(connection, job.job_id, JobType.IMPORT)
    assert site.entries() == ["todo"] * 20
    with site.working(), site.working():
        site.finished(job.job_id)
        assert until(lambda: site.entries() == [])
    check(site.world, job.job_id, COUNT)
    assert site.attempts(job.job_id) == ["COMPLETED"]


@pytest.mark.parametrize("status", ["succeeded", "failed", "doing", None])
def test_entry_that_lies_about_an_unfinished_job(site: Site, status: str | None) -> None:
    """The queue calls it done, or has forgotten it: the sweeper goes by the ledger, and the job is carried all the same."""
    job = site.job()
    if status is None:
        site.world.execute("DELETE FROM penstock.procrastinate_jobs")
    else:
        site.world.execute(f"SET search_path = penstock; UPDATE procrastinate_jobs SET status = '{status}'")
    sweep(site)
    assert site.entries().count("todo") == 1
    with site.working():
        site.finished(job.job_id)
        assert until(lambda: site.entries() == [])
    check(site.world, job.job_id, COUNT)


def test_sweeper_leaves_alone_what_is_no_workers_business(site: Site) -> None:
    """A job of the command line, one that waits in the queue already, one under a live lease elsewhere, one that has ended."""
    own, waiting, leased, ended = site.job(20, queued=False), site.job(21), site.job(22), site.job(23)
    site.application.imports.cancel(ended.job_id)
    site.world.execute(f"DELETE FROM penstock.procrastinate_jobs WHERE args ->> 'job_id' <> '{waiting.job_id}'")
    site.world.execute(
        "INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until)"
        f" VALUES ('{leased.job_id}', 1, 'elsewhere', 1, '1', now() + interval '1 hour')"
    )
    sweep(site)
    assert site.entries() == ["todo"]
    site.world.execute("UPDATE penstock.attempts SET lease_until = now() - interval '1 second'")
    sweep(site)
    assert site.entries() == ["todo", "todo"]
    assert not site.get(own.job_id).status.finished


def test_small_job_is_not_stuck_behind_a_huge_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one job is held in the middle, another comes and ends."""
    held, go = threading.Event(), threading.Event()

    def hold(unit: Any, frame: Any) -> None:
        if frame.height > 100:
            held.set()
            assert go.wait(30)
        insert_new(unit, frame)

    monkeypatch.setattr(free, "insert_new", hold)
    huge = site.job()
    with site.working():
        assert held.wait(20)
        small = site.job(5)
        assert site.finished(small.job_id).status is JobStatus.COMPLETED
        assert not site.get(huge.job_id).status.finished
        go.set()
        assert site.finished(huge.job_id).status is JobStatus.COMPLETED


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True), ImportOptions(dry_run=True)])
def test_handed_over_in_the_middle(site: Site, options: ImportOptions) -> None:
    """The attempt ends and another worker is woken in one transaction; the next one completes, and the first does not count."""
    job = site.job(options=options, good_only=True)
    site.world.execute("DELETE FROM penstock.procrastinate_jobs")
    handover = threading.Event()
    with pytest.raises(HandedOverError):
        site.application.imports.run(job.job_id, progress=lambda _: handover.set(), cancel=threading.Event(), handover=handover)
    assert site.attempts(job.job_id) == ["handed over"]
    assert site.entries() == ["todo"]
    (row,) = site.world.rows("SELECT attempts, attempts_excused FROM penstock.jobs")
    assert (row["attempts"], row["attempts_excused"]) == (1, 1)
    if options.atomic or options.dry_run:
        assert site.world.rows("SELECT FROM things") == []
    with site.working():
        done = site.finished(job.job_id)
    assert done.status is JobStatus.COMPLETED, done.error
    assert done.processed_rows == COUNT - COUNT // 20
    assert bool(site.world.rows("SELECT FROM things")) != options.dry_run


def test_last_attempt_fails_the_job_with_the_last_reason(site: Site) -> None:
    """What was tried MAX_JOB_ATTEMPTS times is set aside with the attempts' last word; a retry starts the count afresh."""
    job = site.job()
    site.world.execute(
        f"""INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until, ended_at, failure)
        VALUES ('{job.job_id}', 1, 'h', 1, '1', now(), now(), '{{"code": "storage_unavailable", "message": "the bucket is away"}}')"""
    )
    site.world.execute("UPDATE penstock.fences SET epoch = 1")
    site.world.execute("UPDATE penstock.jobs SET status = 'PROCESSING', attempts = 6, attempts_excused = 1")
    with site.working():
        failed = site.finished(job.job_id)
        assert failed.status is JobStatus.FAILED
        assert failed.error is not None
        assert failed.error.code == "too_many_attempts"
        assert "the bucket is away" in failed.error.message
        assert failed.error.details["last_error"]["code"] == "storage_unavailable"
        assert site.application.imports.retry(job.job_id).status is JobStatus.PENDING
        assert site.finished(job.job_id).status is JobStatus.COMPLETED
    check(site.world, job.job_id, COUNT)


def test_waiting_job_is_cancelled_at_once(site: Site) -> None:
    """And its entry brings nobody to work on it."""
    job = site.job()
    assert site.application.imports.cancel(job.job_id).status is JobStatus.CANCELLED
    with site.working():
        assert until(lambda: site.entries() == [])
    assert site.attempts(job.job_id) == []


def test_running_job_is_cancelled_after_the_wave(site: Site) -> None:
    """The wish comes back with the progress of the wave, not with a heartbeat; retried, the job does the rest."""
    job = site.job()
    asked: list[object] = []

    def ask(progress: object) -> None:
        if not asked:
            asked.append(progress)
            site.application.imports.cancel(job.job_id)

    imports = site.applied(IMPORT_JOB_LEASE_SECONDS="3600").imports
    stopped = imports.run(job.job_id, progress=ask, cancel=threading.Event())
    assert stopped.status is JobStatus.CANCELLED
    assert 0 < stopped.processed_rows < COUNT
    site.application.imports.retry(job.job_id)
    with site.working():
        site.finished(job.job_id)
    check(site.world, job.job_id, COUNT)


def test_second_attempt_is_refused_at_once(site: Site) -> None:
    """A delivery does not wait for the lease of an attempt that lives."""
    job = site.job()
    refused: list[InvalidStateError] = []

    def again(_progress: object) -> None:
        with pytest.raises(InvalidStateError) as error:
            site.application.imports.run(job.job_id, progress=ignore, cancel=threading.Event(), patient=False)
        refused.append(error.value)

    site.application.imports.run(job.job_id, progress=again, cancel=threading.Event())
    assert refused
    check(site.world, job.job_id, COUNT)


def test_one_permit_for_many_jobs(site: Site) -> None:
    """Jobs in two partitions whose records must be resolved first, and atomic ones, that want the same rows: none waits for ever."""
    records = [{"code": letters(n), "title": "old"} for n in range(400)]
    site.world.run("things", site.file(records))
    jobs = []
    for number in range(4):
        path = site.file(({**record, "title": f"t{number}"} for record in records), f"{number}.ndjson")
        options = ImportOptions(atomic=number % 2 == 0)
        jobs.append(site.application.imports.create("things", str(path), read=ReadOptions(), options=options))
    here = site.application
    imports = Imports(here.database, here.registry, here.settings, sources=here.sources, queue=here.queue, partitions=2, gate=Gate(1))
    with ThreadPoolExecutor(4) as pool:
        done = [*pool.map(lambda job: imports.run(job.job_id, progress=ignore, cancel=threading.Event()), jobs)]
    assert [job.status for job in done] == [JobStatus.COMPLETED] * 4
    assert [job.updated_rows for job in done] == [400] * 4


def test_changes_tell_what_moved(site: Site) -> None:
    """One look for many jobs; unknown ones are left out."""
    one, other = site.job(5), site.job(6)
    imports = site.application.imports
    before = imports.changes([one.job_id, other.job_id])
    assert before == {one.job_id: one.updated_at, other.job_id: other.updated_at}
    imports.cancel(one.job_id)
    assert imports.changes([one.job_id])[one.job_id] > one.updated_at
    assert imports.changes([]) == {}


def test_hand_over_whose_commit_was_not_heard_of(site: Site) -> None:
    """Done a second time it excuses no second attempt and wakes nobody again."""
    job = site.job(20)
    site.world.execute("DELETE FROM penstock.procrastinate_jobs")
    with site.world.database.connect(autocommit=True) as connection:
        terms = Terms(lease_seconds=30, file_hours=1)
        claimed = claim(connection, job.job_id, terms, cancel=threading.Event())
        assert claimed is not None
        for _time in range(2):
            with connection.transaction():
                hand_over(connection, Ledger(job.job_id, claimed.epoch), site.application.queue)
    assert site.world.rows("SELECT attempts, attempts_excused FROM penstock.jobs") == [{"attempts": 1, "attempts_excused": 1}]
    assert site.entries() == ["todo"]
