"""Workers as processes that are killed, stopped, told to end: another one completes, exactly."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from penstock.jobs.model import ImportOptions, JobId, JobStatus
from tests.imports.checker import check
from tests.imports.test_crashes import state_of
from tests.support.commands import Penstock
from tests.support.waiting import until
from tests.workers.site import COUNT, Site

LIMIT_SECONDS = 30


def end(worker: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """What it wrote, after a graceful end."""
    worker.send_signal(number)
    _, told = worker.communicate(timeout=LIMIT_SECONDS)
    assert worker.returncode == 0, told
    return told


def killed(worker: subprocess.Popen[str]) -> None:
    worker.wait(LIMIT_SECONDS)
    assert worker.returncode == -signal.SIGKILL


def test_killed_in_the_middle(durable_site: Site, run_penstock: Penstock) -> None:
    """Kill -9 between two waves: a worker of the same machine goes on at once, and the file has landed exactly once."""
    job = durable_site.job()
    killed(run_penstock.start("worker", env={**durable_site.environment, "CRASH_AT": "wave-done:1"}))
    assert not durable_site.get(job.job_id).status.finished
    with durable_site.working():
        durable_site.finished(job.job_id)
        assert until(lambda: durable_site.entries() == [])
    check(durable_site.world, job.job_id, COUNT)
    assert durable_site.attempts(job.job_id) == ["lost", "COMPLETED"]


def test_sleeper_that_lost_its_lease(durable_site: Site, run_penstock: Penstock) -> None:
    """SIGSTOP past the lease, takeover, SIGCONT: the late write is refused and logged, and the sleeper goes on as a worker."""
    job = durable_site.job()
    sleeper = run_penstock.start("worker", env={**durable_site.environment, "PAUSE_AT": "partition-merged:1"})
    assert until(lambda: state_of(sleeper.pid) == "T")
    with durable_site.working():
        durable_site.finished(job.job_id)
        check(durable_site.world, job.job_id, COUNT)
    sleeper.send_signal(signal.SIGCONT)
    later = durable_site.job(50)
    durable_site.finished(later.job_id)
    told = end(sleeper)
    assert "late work dropped" in told
    assert durable_site.attempts(job.job_id) == ["lost", "COMPLETED"]


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True)])
def test_told_to_end_hands_over(durable_site: Site, run_penstock: Penstock, options: ImportOptions) -> None:
    """SIGTERM with a job under way: it is handed over within the grace, exit status 0, and another worker completes it."""
    job = durable_site.job(options=options, good_only=True)
    worker = run_penstock.start("worker", env={**durable_site.environment, "PAUSE_AT": "wave-planned:1"})
    assert until(lambda: state_of(worker.pid) == "T")
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGCONT)
    _, told = worker.communicate(timeout=LIMIT_SECONDS)
    assert worker.returncode == 0, told
    assert "job handed over" in told
    assert durable_site.attempts(job.job_id) == ["handed over"]
    with durable_site.working():
        done = durable_site.finished(job.job_id)
    assert done.status is JobStatus.COMPLETED
    assert done.imported_rows + done.updated_rows == COUNT - COUNT // 20


def test_killed_after_handing_over(durable_site: Site, run_penstock: Penstock) -> None:
    """What was handed over stays handed over, whatever becomes of the worker."""
    job = durable_site.job()
    worker = run_penstock.start("worker", env={**durable_site.environment, "PAUSE_AT": "wave-planned:1", "CRASH_AT": "job-handed-over"})
    assert until(lambda: state_of(worker.pid) == "T" or worker.poll() is not None)
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGCONT)
    killed(worker)
    assert durable_site.attempts(job.job_id) == ["handed over"]
    with durable_site.working():
        durable_site.finished(job.job_id)
    check(durable_site.world, job.job_id, COUNT)


@pytest.mark.parametrize("point", ["report-packed", "report-published"])
def test_killed_while_packing_the_report(durable_site: Site, run_penstock: Penstock, point: str) -> None:
    """The report is in storage whole and told of, by whoever came second; its bytes are those of the errors."""
    job = durable_site.job()
    killed(run_penstock.start("worker", env={**durable_site.environment, "CRASH_AT": point}))
    assert durable_site.get(job.job_id).status is JobStatus.COMPLETED
    durable_site.world.execute(
        "UPDATE penstock.jobs SET finished_at = finished_at - interval '1 minute', created_at = created_at - interval '1 hour'"
    )
    with durable_site.working():
        assert until(lambda: durable_site.get(job.job_id).report)
    assert_packed(durable_site, job.job_id)


def assert_packed(site: Site, job_id: JobId) -> None:
    report = site.get(job_id).report
    assert report is not None
    packed = b"".join(site.application.storage.read(report.key))  # type: ignore[arg-type]  # a job's report has the key as text
    assert len(packed) == report.size
    assert [json.loads(line) for line in packed.splitlines()] == [*site.application.imports.errors(job_id)]
    (row,) = site.world.rows("SELECT key, kind, size, sha256 FROM penstock.files")
    assert row == {"key": report.key, "kind": "REPORT", "size": report.size, "sha256": report.sha256}


def test_no_database_at_the_start(run_penstock: Penstock, tmp_path: Path) -> None:
    """It says so and ends with a status of failure."""
    done = run_penstock("worker", env={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "CONNECTION_TIMEOUT": "2"})
    assert done.returncode == 1
    assert "Cannot connect to PostgreSQL" in done.stderr


def test_second_signal_ends_at_once(durable_site: Site, run_penstock: Penstock) -> None:
    """Whatever hangs: a job that waits for a lock, with a grace of minutes."""
    durable_site.job(20)
    with durable_site.world.database.connect() as blocking:
        blocking.execute("LOCK TABLE things")
        worker = run_penstock.start("worker", env={**durable_site.environment, "SHUTDOWN_GRACE_SECONDS": "600"})
        assert until(
            lambda: durable_site.world.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.stderr is not None
        assert any("worker stops" in line for line in worker.stderr)
        worker.send_signal(signal.SIGTERM)
        worker.wait(LIMIT_SECONDS)
    assert worker.returncode == 130
