"""Processes that stand still at the worst moments: others can cancel the job and take it over all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.errors import LeaseLostError
from penstock.jobs.model import Job, JobStatus
from penstock.lifecycle.process import ProcessIdentity
from tests.imports.checker import check
from tests.service.stepping import Attempt, Stop, stepping
from tests.workers.site import COUNT, Site

ONE, OTHER = ProcessIdentity("one", 1, "1"), ProcessIdentity("other", 1, "1")


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[Site]:
    found = Site(database, tmp_path)
    with stepping():
        yield found
    found.close()


def standing(site: Site, stop: Stop) -> Attempt:
    """An attempt that reached that place and then lost its lease to time."""
    imports = site.world.imports(chunk_bytes=8192, partitions=1, lease_seconds=3600)
    attempt = Attempt(imports, site.job().job_id, ONE, max_attempts=None).start()
    site.world.execute("UPDATE penstock.attempts SET lease_until = now() - interval '1 second'")
    attempt.go(stop)
    return attempt


@pytest.mark.parametrize("stop", [Stop.WRITTEN, Stop.COMMITTED, Stop.BOOKED, Stop.CLOSING])
def test_taken_over(site: Site, stop: Stop) -> None:
    """Whatever locks it holds; and it writes nothing afterwards."""
    still = standing(site, stop)
    imports = site.world.imports(chunk_bytes=8192, partitions=1, lease_seconds=3600)
    second = Attempt(imports, still.job_id, OTHER, max_attempts=None).start()
    assert second.at is Stop.CLAIMED, second.result
    second.go(Stop.END)
    assert isinstance(second.result, Job), second.result
    check(site.world, still.job_id, COUNT)
    still.go(Stop.END)
    assert isinstance(still.result, LeaseLostError), still.result
    check(site.world, still.job_id, COUNT)


def test_asked_to_cancel_in_the_middle_of_a_unit(site: Site) -> None:
    """The wish is noted at once, though a transaction with rejected records of the job is open; its attempt sees it after the wave."""
    imports = site.world.imports(chunk_bytes=8192, partitions=1, lease_seconds=3600)
    attempt = Attempt(imports, site.job().job_id, ONE, max_attempts=None).start()
    attempt.go(Stop.WRITTEN)
    assert imports.cancel(attempt.job_id).status is JobStatus.PROCESSING
    attempt.go(Stop.END)
    assert isinstance(attempt.result, Job), attempt.result
    assert attempt.result.status is JobStatus.CANCELLED
    assert 0 < attempt.result.processed_rows < COUNT
