"""What neither comes to an end nor gets in anybody's way: storage that is away, a worker whose job hangs."""

import threading

import pytest

from penstock.errors import StorageUnavailableError
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
    sweeper = Sweeper(site.application, Packing(site.application))
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
        assert until(lambda: durable_site.world.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        worker.terminate()
        _, told = worker.communicate(timeout=30)
    assert worker.returncode == 0, told
    assert "jobs did not stop in time" in told
    with durable_site.working():
        durable_site.finished(job.job_id)
    check(durable_site.world, job.job_id, 20)
