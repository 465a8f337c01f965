"""Workers as processes that export, and are killed, stopped, told to end: another one completes, with one whole file."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from penstock.crashpoints import CrashPoint
from penstock.formats.model import Compression, Format
from penstock.jobs.model import JobStatus
from tests.exports.checker import check_file, direct, fill, keep, objects, wishes
from tests.imports.test_crashes import state_of
from tests.support.commands import Penstock
from tests.support.waiting import until
from tests.workers.site import Site
from tests.workers.test_processes import LIMIT_SECONDS, end, killed

COUNT = 20_000
PASSED = [
    CrashPoint.JOB_CLAIMED,
    CrashPoint.EXPORT_COUNTED,
    CrashPoint.EXPORT_WRITTEN,
    CrashPoint.EXPORT_COMPLETING,
    CrashPoint.EXPORT_COMPLETED,
]
CHECK_BYTES = 1000  # more than what the start writes to see whether it may
ASKED = wishes(Format.CSV, Compression.GZIP)


def is_growing(partial: Path) -> bool:
    with suppress(FileNotFoundError):  # not there yet, or just gone
        return any(path.stat().st_size > CHECK_BYTES for path in partial.iterdir())
    return False


@pytest.mark.parametrize("point", PASSED)
def test_killed_at(durable_site: Site, run_penstock: Penstock, point: CrashPoint) -> None:
    """Whatever the moment of death, a worker completes the job, and one object remains: that of the attempt that completed it."""
    site = durable_site
    fill(site.world, COUNT)
    job = site.application.exports.create(ASKED)
    killed(run_penstock.start("worker", env={**site.environment, "CRASH_AT": point}))
    assert site.get(job.job_id).status.finished == (point is CrashPoint.EXPORT_COMPLETED)
    keep(site)  # before anybody has taken over: what an unfinished job may still need stays
    with site.working():
        site.finished(job.job_id)
        assert until(lambda: site.entries() == [])
    check_file(site, job.job_id, direct(site, ASKED), COUNT)
    assert site.attempts(job.job_id) == (["COMPLETED"] if point is CrashPoint.EXPORT_COMPLETED else ["lost", "COMPLETED"])
    assert len(objects(site)) == 1


@pytest.mark.parametrize("point", [CrashPoint.EXPORT_COUNTED, CrashPoint.EXPORT_WRITTEN, CrashPoint.EXPORT_COMPLETING])
def test_sleeper_that_lost_its_lease(durable_site: Site, run_penstock: Penstock, point: CrashPoint) -> None:
    """SIGSTOP past the lease, takeover, SIGCONT: it publishes nothing, its object goes, and the sleeper goes on as a worker."""
    site = durable_site
    fill(site.world, COUNT)
    job = site.application.exports.create(ASKED)
    sleeper = run_penstock.start("worker", env={**site.environment, "PAUSE_AT": point})
    assert until(lambda: state_of(sleeper.pid) == "T")
    with site.working():
        done = site.finished(job.job_id)
    assert done.file is not None
    content = direct(site, ASKED)
    sleeper.send_signal(signal.SIGCONT)
    later = site.job(50)
    site.finished(later.job_id)
    assert "late work dropped" in end(sleeper)
    assert objects(site) == [done.file.key]  # without housekeeping
    assert site.attempts(job.job_id) == ["lost", "COMPLETED"]
    check_file(site, job.job_id, content, COUNT)


@pytest.mark.parametrize("point", [CrashPoint.JOB_CLAIMED, CrashPoint.EXPORT_COUNTED])
def test_told_to_end_hands_over(durable_site: Site, run_penstock: Penstock, point: CrashPoint) -> None:
    """SIGTERM with an export under way: it stops at once, leaves nothing, exit status 0, and another worker exports anew."""
    site = durable_site
    fill(site.world, COUNT)
    job = site.application.exports.create(ASKED)
    worker = run_penstock.start("worker", env={**site.environment, "PAUSE_AT": point})
    assert until(lambda: state_of(worker.pid) == "T")
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGCONT)
    _, told = worker.communicate(timeout=LIMIT_SECONDS)
    assert worker.returncode == 0, told
    assert "job handed over" in told
    assert (site.attempts(job.job_id), objects(site)) == (["handed over"], [])
    with site.working():
        site.finished(job.job_id)
    check_file(site, job.job_id, direct(site, ASKED), COUNT)


def test_killed_half_way(durable_site: Site, run_penstock: Penstock, tmp_path: Path) -> None:
    """Kill -9 while bytes flow: what lies half written is no object, and is swept."""
    site = durable_site
    fill(site.world, 150_000)
    job = site.application.exports.create(ASKED)
    worker = run_penstock.start("worker", env=site.environment)
    partial = tmp_path / "data" / "storage" / ".partial"
    assert until(lambda: is_growing(partial))
    worker.kill()
    worker.wait(LIMIT_SECONDS)
    assert objects(site) == []
    assert site.get(job.job_id).status is JobStatus.PROCESSING
    with site.working():
        site.finished(job.job_id)
    check_file(site, job.job_id, direct(site, ASKED), 150_000)


def test_exports_that_wait_leave_room_for_imports(site: Site) -> None:
    """A stream that nobody reads on has the only permit for exports: three that wait for it do not keep an import from its end."""
    fill(site.world)
    with site.working():
        with site.application.exports.export(ASKED) as stream:
            next(stream.pieces())
            waiting = [site.application.exports.create(ASKED) for _ in range(3)]
            assert until(lambda: site.get(waiting[0].job_id).status is JobStatus.PROCESSING)
            site.finished(site.job().job_id)
            assert not any(site.get(job.job_id).status.finished for job in waiting)
        for job in waiting:
            assert site.finished(job.job_id).status is JobStatus.COMPLETED
