"""The database under a worker: restarted, gone for a while."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg

from penstock.bootstrap import Application
from penstock.database.connect import Database
from penstock.database.embedded import EmbeddedPostgres
from penstock.errors import DatabaseError
from penstock.jobs.model import JobId, JobStatus
from tests.imports.checker import check
from tests.support.proxy import Proxy
from tests.support.waiting import until
from tests.workers.site import COUNT, Site


def test_server_restarts_under_a_worker(data_dir: Path, tmp_path: Path) -> None:
    """The whole cluster crashes in the middle of a job and comes back: the job completes, and so does one that is made later."""
    with EmbeddedPostgres(data_dir) as server:
        site = Site(server.conninfo, tmp_path)
        job = site.job()
        with site.working():
            assert until(lambda: site.world.rows("SELECT FROM penstock.receipts"))
            with psycopg.connect(server.conninfo, autocommit=True) as connection:
                os.kill(connection.info.backend_pid, signal.SIGKILL)
            assert until(lambda: finished(site, job.job_id), 60)
            check(site.world, job.job_id, COUNT)
            later = site.job(30)
            assert site.finished(later.job_id).status is JobStatus.COMPLETED
        site.close()


def finished(site: Site, job_id: JobId) -> bool:
    try:
        return bool(site.world.rows(f"SELECT FROM penstock.jobs WHERE job_id = '{job_id}' AND finished_at IS NOT NULL"))
    except (psycopg.Error, DatabaseError):  # it is starting
        return False


def test_connections_cut_under_a_worker(durable_database: str, tmp_path: Path, proxied: Callable[[str], Proxy]) -> None:
    """Everything of the worker's is cut in the middle of a job, the queue's connections too."""
    proxy = proxied(durable_database)
    near = Site(durable_database, tmp_path)
    far = Application(near.settings(), near.world.registry, Database(proxy.conninfo, connect_seconds=3))
    job = near.job()
    with near.working(far):
        assert until(lambda: near.world.rows("SELECT FROM penstock.waves"))
        assert proxy.cut() > 0
        near.finished(job.job_id)
        later = near.job(30)
        near.finished(later.job_id)
    far.database.close()
    check(near.world, job.job_id, COUNT)
    near.close()
