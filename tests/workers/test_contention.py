"""Several at once about the same: a cancel and the end, many entries and few workers, news that never came."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.errors import InvalidStateError
from penstock.jobs.model import JobStatus, JobType
from tests.imports.checker import check
from tests.imports.world import ignore
from tests.queue.test_queue import Consuming
from tests.support.waiting import until
from tests.workers.site import Site

ENTRIES = 1500


@pytest.mark.parametrize("nth", range(6))
def test_cancel_against_the_end(site: Site, nth: int) -> None:
    """Both at the same moment: cancelled or completed, never both, and whoever cancelled is told which."""
    job = site.job(20)
    imports, start = site.application.imports, threading.Barrier(2)

    def cancel() -> JobStatus | None:
        start.wait(20)
        try:
            return imports.cancel(job.job_id).status
        except InvalidStateError:
            return None

    def meet(_progress: object) -> None:
        if nth % 2 == 0:
            start.wait(20)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cancel)
        if nth % 2:
            start.wait(20)
        try:
            imports.run(job.job_id, progress=meet, cancel=threading.Event())
        except InvalidStateError:
            assert asked.result(20) is JobStatus.CANCELLED
        told = asked.result(20)
    ended = site.get(job.job_id)
    assert ended.status in {JobStatus.COMPLETED, JobStatus.CANCELLED}
    assert ended.status is JobStatus.COMPLETED or told is not None
    assert ended.processed_rows == ended.imported_rows + ended.updated_rows + ended.failed_rows
    if ended.status is JobStatus.COMPLETED:
        check(site.world, job.job_id, 20)
    else:
        imports.retry(job.job_id)
        imports.run(job.job_id, progress=ignore, cancel=threading.Event())
        check(site.world, job.job_id, 20)


def test_three_consumers_and_many_entries_of_mixed_priority(site: Site) -> None:
    """None of them breaks, and each entry is delivered once."""
    site.world.execute(
        "INSERT INTO penstock.procrastinate_jobs (queue_name, task_name, priority, args)"
        " SELECT 'penstock', 'penstock.run', n % 7 - 3, jsonb_build_object('job_id', md5(n::text)::uuid, 'version', 1)"
        f" FROM generate_series(1, {ENTRIES}) n"
    )
    database = site.world.database
    with Consuming(database, slots=4) as one, Consuming(database, slots=4) as two, Consuming(database, slots=4) as three:
        assert until(lambda: len(one.seen) + len(two.seen) + len(three.seen) >= ENTRIES, 60)
        assert until(lambda: site.entries() == [])
    seen = [*one.seen, *two.seen, *three.seen]
    assert len(seen) == len(set(seen)) == ENTRIES


def test_news_that_never_came(site: Site) -> None:
    """An entry that nobody was notified of is found by looking, in seconds."""
    with site.working():
        first = site.job(5)
        site.finished(first.job_id)
        job = site.job(6, queued=False)
        with site.world.database.connect() as connection:
            connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, so no notification
            connection.execute("UPDATE penstock.jobs SET queued = true WHERE job_id = %s", [job.job_id])
            site.application.queue.wake(connection, job.job_id, JobType.IMPORT)
        assert site.finished(job.job_id).status is JobStatus.COMPLETED


def test_entries_of_a_newer_version_beside_jobs(site: Site) -> None:
    """Workers of this version carry what they know and leave the rest, unharmed, for those of the next."""
    site.world.execute(
        """INSERT INTO penstock.procrastinate_jobs (queue_name, task_name, args) VALUES
        ('penstock', 'penstock.export', '{"job_id": "x", "version": 1}'), ('penstock', 'penstock.run', '{"id": 1, "version": 2}')"""
    )
    with site.working(), site.working():
        jobs = [site.job(20 + n) for n in range(4)]
        for job in jobs:
            assert site.finished(job.job_id).status is JobStatus.COMPLETED
        assert until(lambda: site.entries() == ["todo", "todo"])
    rows = site.world.rows("SELECT task_name FROM penstock.procrastinate_jobs WHERE scheduled_at > now() AND worker_id IS NULL ORDER BY id")
    assert [row["task_name"] for row in rows] == ["penstock.export", "penstock.run"]
