"""How much of the database exports have at once, and that whoever waits can be stopped."""

import threading
from contextlib import ExitStack
from typing import Any

import pytest

from penstock.bootstrap import Application
from penstock.errors import CancelledError, HandedOverError, OverloadedError
from penstock.exports.producing import Export
from penstock.jobs.model import Job, JobStatus
from penstock.lifecycle.gate import Gate, permits_of
from tests.exports.checker import Delivery, check_file, check_nothing, direct, wishes
from tests.support.waiting import until
from tests.workers.site import Site


def impatient(application: Application, **more: Any) -> Export:
    return Export(application.database, application.registry, application.settings, wishes(), gate=application.gate, turn_seconds=0, **more)


def stop() -> None:
    """Of whoever would have to wait."""
    raise CancelledError("stop")


def test_shares_of_a_process() -> None:
    """Of 10 operations imports and exports have 6 together; with very few each still has one."""
    assert [permits_of(workers) for workers in (1, 2, 4, 6, 10)] == [1, 1, 2, 3, 6]


@pytest.mark.parametrize(("permits", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3)])
def test_exports_have_half_of_the_permits(permits: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And imports all that exports leave; one permit is for either."""
    monkeypatch.setattr("penstock.lifecycle.gate._LOOK_SECONDS", 0.05)
    gate = Gate(permits)
    for _ in range(2):  # what was held is free again
        with ExitStack() as held:
            for _ in range(most):
                held.enter_context(gate.export(stop))
            with pytest.raises(CancelledError), gate.export(stop):
                pass
            for _ in range(permits - most):
                held.enter_context(gate.permit(stop))
            with pytest.raises(CancelledError), gate.permit(stop):
                pass


def test_stream_too_many_is_refused(site: Site) -> None:
    """It says that it may be tried again, holds nothing, and the next one after an end has its turn."""
    with impatient(site.application) as export:
        pieces = export.pieces()
        next(pieces)
        with pytest.raises(OverloadedError), impatient(site.application):
            pass
        pieces.close()
    with impatient(site.application) as export:
        assert b"".join(export.pieces())


def test_export_that_fails_gives_its_turn_back(site: Site) -> None:
    """Whatever ends it: here its table is not there."""
    site.world.execute("ALTER TABLE things RENAME TO elsewhere")
    for _ in range(4):
        with pytest.raises(Exception, match="PostgreSQL refused"), impatient(site.application, counted=True):
            pass
    site.world.execute("ALTER TABLE elsewhere RENAME TO things")
    with impatient(site.application, counted=True) as export:
        assert export.total_rows == 1000


def test_waiting_stream_is_cancelled(site: Site) -> None:
    """Before it has its turn there is no statement to cancel, but it ends all the same."""
    waiting = site.application.exports.export(wishes())
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            waiting.__enter__()
        except CancelledError as error:
            ended.append(error)

    with impatient(site.application):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.cancel()
        thread.join(4)  # less than it would wait for its turn
        assert len(ended) == 1


def test_cancelled_before_it_begins(site: Site) -> None:
    """A cancel is not lost."""
    export = site.application.exports.export(wishes())
    export.cancel()
    with pytest.raises(CancelledError), export:
        pass


def test_queued_export_waits_for_its_turn(site: Site) -> None:
    """For longer than its lease, which its heartbeat renews; imports go on beside it."""
    job = site.application.exports.create(wishes())
    with impatient(site.application):
        delivery = Delivery(site, job.job_id)
        lease = "SELECT lease_until FROM penstock.attempts WHERE epoch = 1"
        assert until(lambda: site.world.rows(lease))
        first = site.world.rows(lease)[0]["lease_until"]
        before = site.get(job.job_id).updated_at
        assert until(lambda: site.world.rows(lease)[0]["lease_until"] > first)
        assert site.get(job.job_id).updated_at == before  # nothing moves, so nothing is told
        imported = site.job(30, queued=False)
        imports = site.application.imports.for_worker(site.application.gate)
        done = imports.run(imported.job_id, progress=lambda _: None, cancel=threading.Event())
        assert done.status is JobStatus.COMPLETED
        assert delivery.result is None
    assert isinstance(delivery.ended(), Job), delivery.result
    check_file(site, job.job_id, direct(site, wishes()), 1000 + done.imported_rows)


def test_waiting_queued_export_can_be_stopped(site: Site) -> None:
    """By a cancel in the ledger, and by a process that ends."""
    site.application = site.applied(IMPORT_JOB_LEASE_SECONDS="3600")
    cancelled, left = (site.application.exports.create(wishes()) for _ in range(2))
    with impatient(site.application):
        one, other = Delivery(site, cancelled.job_id), Delivery(site, left.job_id)
        assert until(lambda: site.world.rows("SELECT count(*) AS n FROM penstock.attempts") == [{"n": 2}])
        site.application.exports.cancel(cancelled.job_id)
        one.ended()
        other.handover.set()
        assert isinstance(other.ended(), HandedOverError)
    check_nothing(site, cancelled.job_id, JobStatus.CANCELLED)
    check_nothing(site, left.job_id, JobStatus.PROCESSING)
    site.application.exports.run(left.job_id, cancel=threading.Event())
    check_file(site, left.job_id, direct(site, wishes()), 1000)
