"""What neither comes to an end nor gets in anybody's way: storage that is away, a worker whose job hangs."""

import threading
from contextlib import closing

import pytest

from penstock.errors import StorageUnavailableError
from penstock.imports.reading import JobReader
from penstock.jobs.model import Job, JobId, JobStatus
from penstock.lifecycle.claiming import session_name
from penstock.sources import Sources
from penstock.workers.packing import Packing
from penstock.workers.sweeping import Sweeper
from tests.imports.checker import check
from tests.imports.world import ignore
from tests.support.commands import Penstock
from tests.support.waiting import until
from tests.workers.site import COUNT, Site


def test_storage_that_is_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt says why it ended and gives its lease back; the job is tried again after a pause, not at once."""
    job = site.job()
    site.world.execute("DELETE FROM penstock.procrastinate_jobs")

    def away(*_: object) -> None:
        raise StorageUnavailableError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(Sources, "open", away)
        with pytest.raises(StorageUnavailableError):
            site.application.imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    (attempt,) = site.world.rows("SELECT outcome, failure, lease_until <= now() AS over FROM penstock.attempts")
    assert (attempt["outcome"], attempt["failure"]["code"], attempt["over"]) == ("interrupted", "storage_unavailable", True)
    sweeper = Sweeper(site.application)
    sweeper.sweep()
    assert site.entries() == []
    site.world.execute("UPDATE penstock.attempts SET ended_at = ended_at - interval '11 seconds', lease_until = now()")
    sweeper.sweep()
    assert site.entries() == ["todo"]
    with site.working():
        site.finished(job.job_id)
    check(site.world, job.job_id, COUNT)


def test_worker_whose_job_hangs_ends_in_time(durable_site: Site, run_penstock: Penstock) -> None:
    """After the grace it goes, says what it leaves, and another worker completes once the lease has ended."""
    job = durable_site.job(20)
    with durable_site.world.database.connect() as blocking:
        blocking.execute("LOCK TABLE things")
        worker = run_penstock.start("worker", env={**durable_site.environment, "SHUTDOWN_GRACE_SECONDS": "2"})
        assert until(
            lambda: durable_site.world.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        )
        worker.terminate()
        _, told = worker.communicate(timeout=30)
    assert worker.returncode == 0, told
    assert "jobs did not stop in time" in told
    with durable_site.working():
        durable_site.finished(job.job_id)
    check(durable_site.world, job.job_id, 20)


def ended(site: Site) -> Job:
    """A job with a report that nobody has packed for a minute."""
    job = site.application.imports.run(site.job(40).job_id, progress=ignore, cancel=threading.Event())
    site.world.execute("UPDATE penstock.jobs SET finished_at = finished_at - interval '1 minute'")
    site.world.execute("DELETE FROM penstock.procrastinate_jobs")
    return job


def test_long_report_keeps_no_sweep(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was dropped is picked up while a report is packed, however long that takes."""
    ended(site)
    packing, go_on = threading.Event(), threading.Event()

    def pack(_self: Packing, _job_id: JobId) -> None:
        packing.set()
        go_on.wait(30)

    monkeypatch.setattr(Packing, "pack", pack)
    with site.working():
        try:
            assert packing.wait(20)
            job = site.job(20, queued=False)
            site.world.execute(f"UPDATE penstock.jobs SET queued = true WHERE job_id = '{job.job_id}'")
            assert until(lambda: site.get(job.job_id).status.finished, 20)
        finally:
            go_on.set()


def test_report_that_cannot_be_packed_keeps_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken one is logged and tried again; those behind it are packed."""
    broken, whole = ended(site), ended(site)
    real = JobReader.errors

    def errors(self: JobReader, job_id: JobId) -> object:
        if job_id == broken.job_id:
            raise RuntimeError("broken")
        return real(self, job_id)

    monkeypatch.setattr(JobReader, "errors", errors)
    Packing(site.application).catch_up()
    assert site.get(broken.job_id).report is None
    assert site.get(whole.job_id).report is not None


def test_job_of_a_stopped_process_is_cancelled_at_once(site: Site) -> None:
    """Its lease is over, its transaction still holds the fence: that transaction is ended, not waited for."""
    job = site.job(20)
    site.world.execute(
        "INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until)"
        f" VALUES ('{job.job_id}', 1, 'elsewhere', 1, '1', now() - interval '1 second');"
        f"UPDATE penstock.fences SET epoch = 1 WHERE job_id = '{job.job_id}'"
    )
    with closing(site.world.database.connect(autocommit=True, application_name=session_name(job.job_id))) as stopped:
        stopped.execute("BEGIN")
        stopped.execute("SELECT FROM penstock.fences FOR SHARE")
        assert site.application.imports.cancel(job.job_id).status is JobStatus.CANCELLED
