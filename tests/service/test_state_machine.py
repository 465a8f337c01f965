"""Whatever happens to jobs and attempts, in whatever order: the database is what a small model says, and no row is lost or doubled."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from psycopg.rows import dict_row

from penstock.errors import HandedOverError, InvalidStateError, LeaseLostError, StorageUnavailableError
from penstock.exports.model import ExportWishes
from penstock.exports.service import Exports
from penstock.formats.model import ReadOptions
from penstock.imports.ledger import Ledger
from penstock.imports.service import Imports
from penstock.jobs.model import Epoch, ImportOptions, Job, JobId, JobStatus
from penstock.lifecycle.attempt import Heartbeat
from penstock.lifecycle.gate import Gate
from penstock.lifecycle.process import ProcessIdentity, this_process
from penstock.storage import EXPORTS, Key
from penstock.workers.sweeping import Sweeper
from tests.service.known import BAD_EVERY, LEGAL, RECORDS, C, F, Known, P, X, record
from tests.service.stepping import Attempt, DiedError, Stop, stepping
from tests.workers.site import Site

JOBS, MAX_ATTEMPTS = 3, 3
OF_EXPORTS = [Stop.WRITTEN, Stop.COMMITTED, Stop.CLOSING]  # behind the last of them is the end
HERE = this_process()
IDENTITIES = [HERE, ProcessIdentity("one", 1, "1"), ProcessIdentity("other", 1, "1")]


class Machine(RuleBasedStateMachine):
    def __init__(self, site: Site, admin: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.site, self.admin = site, admin
        self.imports = site.world.imports(chunk_bytes=400, partitions=1, lease_seconds=3600)
        here = site.applied(IMPORT_JOB_LEASE_SECONDS="3600", IMPORT_WORKERS="10")
        self.storage = here.storage
        gate = Gate(100)  # attempts that stand still keep their permits
        self.exports = Exports(here.database, here.registry, here.settings, queue=here.queue, storage=lambda: here.storage, gate=gate)
        self.jobs: dict[JobId, Known] = {}
        self.attempts: list[Attempt] = []  # that stand still somewhere
        self.before: dict[JobId, tuple[JobStatus, int]] = {}
        self.execute("TRUNCATE things, parts, penstock.jobs, penstock.procrastinate_jobs CASCADE")
        for key in self.objects():
            self.storage.delete(key)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.admin.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        self.admin.execute(statement.encode())

    # -- jobs ------------------------------------------------------------------------------------------------------------------------

    @initialize()
    def first(self) -> None:
        self.create(queued=True, export=False)
        self.create(queued=True, export=True)

    @precondition(lambda self: len(self.jobs) < JOBS)
    @rule(queued=st.booleans(), export=st.booleans())
    def create(self, queued: bool, export: bool) -> None:
        number = len(self.jobs)
        if export:
            job = self.exports.create(ExportWishes(resource="things", fields=("code", "title", "parts")))
        else:
            path = self.site.file((record(number, row) for row in range(1, RECORDS + 1)), f"{number}.ndjson")
            job = self.imports.create("things", str(path), read=ReadOptions(), options=ImportOptions(), queued=queued)
        self.jobs[job.job_id] = Known(number, job.queued, export, waiting=int(job.queued))

    def service(self, known: Known) -> Imports | Exports:
        return self.exports if known.export else self.imports

    def objects(self) -> list[Key]:
        return [found.key for found in self.storage.list(EXPORTS)]

    def job(self, data: st.DataObject, *, closing: bool = False) -> tuple[JobId, Known]:
        """One of the jobs; one whose attempt is `closing` only where that is no hindrance."""
        job_id = data.draw(st.sampled_from([job_id for job_id, known in self.jobs.items() if closing or not known.closing]), "job")
        return job_id, self.jobs[job_id]

    @precondition(lambda self: not all(known.closing for known in self.jobs.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """At once where nobody works on it, by a wish where somebody does, never once it has ended."""
        job_id, known = self.job(data)
        if data.draw(st.integers(0, 2), "seldom"):
            return
        if known.status.finished:
            self.refused(lambda: self.service(known).cancel(job_id))
            return
        self.service(known).cancel(job_id)
        known.cancel = True
        if not known.owned:
            known.epoch += 1
            known.over(X)

    @precondition(lambda self: not all(known.closing for known in self.jobs.values()))
    @rule(data=st.data(), queued=st.booleans())
    def again(self, data: st.DataObject, queued: bool) -> None:
        """Retried by a worker, or (an import) reopened for the command line; the former forgets the attempts so far."""
        job_id, known = self.job(data)
        queued = queued or known.export
        act = self.service(known).retry if queued else self.imports.reopen
        if known.status not in (F, X):
            self.refused(lambda: act(job_id))
            return
        act(job_id)
        known.status, known.cancel = P, False
        if queued:
            known.excused, known.queued, known.waiting = known.attempts, True, known.waiting + 1

    # -- attempts --------------------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), identity=st.sampled_from(IDENTITIES), capped=st.booleans())
    def deliver(self, data: st.DataObject, identity: ProcessIdentity, capped: bool) -> None:
        """From the queue, if an entry waits there, or by hand: one that is owned, or has ended, is refused at once."""
        self.delivered(*self.job(data, closing=True), identity, capped=capped)

    @precondition(lambda self: any(known.free for known in self.jobs.values()))
    @rule(data=st.data(), identity=st.sampled_from(IDENTITIES))
    def deliver_free(self, data: st.DataObject, identity: ProcessIdentity) -> None:
        """One that nobody works on, so that much is under way."""
        job_id = data.draw(st.sampled_from([job_id for job_id, known in self.jobs.items() if known.free]), "job")
        self.delivered(job_id, self.jobs[job_id], identity, capped=True)

    def delivered(self, job_id: JobId, known: Known, identity: ProcessIdentity, *, capped: bool) -> None:
        if known.waiting:
            self.execute(
                "DELETE FROM penstock.procrastinate_jobs WHERE id = (SELECT min(id) FROM penstock.procrastinate_jobs"
                f" WHERE status = 'todo' AND args ->> 'job_id' = '{job_id}')"
            )
            known.waiting -= 1
        attempt = Attempt(self.service(known), job_id, identity, max_attempts=MAX_ATTEMPTS if capped else None).start()
        if known.status.finished or known.owned:
            assert isinstance(attempt.result, InvalidStateError), attempt.result
        elif capped and known.attempts - known.excused >= MAX_ATTEMPTS:
            assert isinstance(attempt.result, Job), attempt.result
            assert attempt.result.error is not None
            assert attempt.result.error.code == "too_many_attempts"
            known.epoch += 1
            known.over(F)
        else:
            assert attempt.at is Stop.CLAIMED, attempt.result
            known.begun(attempt)
            self.attempts.append(attempt)

    def attempt(self, data: st.DataObject) -> tuple[Attempt, Known, bool]:
        """One that stands still, and whether the job is its own."""
        attempt = data.draw(st.sampled_from(self.attempts), "attempt")
        known = self.jobs[attempt.job_id]
        return attempt, known, known.owner is attempt

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), until=st.sampled_from(Stop))
    def go_on(self, data: st.DataObject, until: Stop) -> None:
        attempt, known, _ = self.attempt(data)
        attempt.go(data.draw(st.sampled_from(OF_EXPORTS), "where") if known.export else until)
        self.look(attempt)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def go_on_by_a_wave(self, data: st.DataObject) -> None:
        self.go_on(data, Stop.BOOKED)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def go_on_by_a_unit(self, data: st.DataObject) -> None:
        self.go_on(data, Stop.WRITTEN)

    def look(self, attempt: Attempt) -> None:
        """What became of it: one that lost its job can do no more than say so."""
        if attempt.at is not None:
            return
        self.attempts.remove(attempt)
        known = self.jobs[attempt.job_id]
        if known.owner is not attempt:
            assert isinstance(attempt.result, LeaseLostError), attempt.result
        elif isinstance(attempt.result, HandedOverError):
            assert attempt.handover.is_set()
            known.excused, known.waiting = known.excused + 1, known.waiting + int(known.queued)
            known.over()
        else:
            assert isinstance(attempt.result, Job), attempt.result
            assert attempt.result.status in ({C, X} if known.cancel else {C}), attempt.result
            known.over(attempt.result.status)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        self.attempt(data)[0].handover.set()

    @precondition(lambda self: any(not self.jobs[a.job_id].closing for a in self.attempts))
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        """A beat renews the lease of the owner, also one that had ended, and brings the wish to cancel; others learn that they lost it."""
        attempt = data.draw(st.sampled_from([a for a in self.attempts if not self.jobs[a.job_id].closing]), "attempt")
        known = self.jobs[attempt.job_id]
        own = known.owner is attempt
        cancel, lost = threading.Event(), threading.Event()
        ledger = Ledger(attempt.job_id, Epoch(attempt.epoch))
        Heartbeat(lambda: self.admin, ledger, lease_seconds=3600, cancel=cancel, lost=lost)._beat(self.admin)
        assert (lost.is_set(), cancel.is_set()) == (not own, own and known.cancel)
        if own:
            known.leased = True

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Killed where it stands. On this machine that is seen at once, elsewhere when the lease has ended."""
        attempt, known, own = self.attempt(data)
        attempt.die()
        self.attempts.remove(attempt)
        assert isinstance(attempt.result, DiedError), attempt.result
        if own:
            known.owner = None
            known.gone = attempt.identity is HERE
            if known.gone:
                self.of_last(attempt.job_id, "process_started = 'gone'")

    @precondition(lambda self: any(a.at is not Stop.CLAIMED for a in self.attempts))
    @rule(data=st.data())
    def break_off(self, data: st.DataObject) -> None:
        """Something that it needs is away: it says so and gives the lease back."""
        attempt = data.draw(st.sampled_from([a for a in self.attempts if a.at is not Stop.CLAIMED]), "attempt")
        known = self.jobs[attempt.job_id]
        attempt.break_off()
        if known.export and not isinstance(attempt.result, StorageUnavailableError):  # told to stop, it says that it was told so
            self.look(attempt)
            return
        self.attempts.remove(attempt)
        assert isinstance(attempt.result, StorageUnavailableError | LeaseLostError), attempt.result
        if known.owner is attempt:
            known.over()
            known.pausing = True

    @precondition(lambda self: not all(known.closing for known in self.jobs.values()))
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        """The lease of the last attempt ends, and the pause after what it said."""
        job_id, known = self.job(data)
        self.of_last(job_id, "lease_until = now() - interval '1 s', ended_at = ended_at - interval '1 hour'")
        known.leased = known.pausing = False

    def of_last(self, job_id: JobId, change: str) -> None:
        self.execute(
            f"UPDATE penstock.attempts SET {change} WHERE job_id = '{job_id}'"
            f" AND epoch = (SELECT max(epoch) FROM penstock.attempts WHERE job_id = '{job_id}')"
        )

    # -- the queue -------------------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), lie=st.sampled_from(["succeeded", "failed", "doing", None]))
    def lose_entries(self, data: st.DataObject, lie: str | None) -> None:
        job_id, known = self.job(data)
        which = f"WHERE args ->> 'job_id' = '{job_id}'"
        change = f"UPDATE procrastinate_jobs SET status = '{lie}'" if lie else "DELETE FROM procrastinate_jobs"
        self.execute(f"SET search_path = penstock; {change} {which}; RESET search_path")
        known.waiting = 0

    @rule()
    def sweep(self) -> None:
        Sweeper(self.site.application).sweep()
        for known in self.jobs.values():
            if known.dropped:
                known.waiting = 1

    # -- what always holds -----------------------------------------------------------------------------------------------------------

    @staticmethod
    def refused(act: Callable[[], object]) -> None:
        with pytest.raises(InvalidStateError):
            act()

    @invariant()
    def ledger_is_the_model(self) -> None:
        rows = self.rows(
            "SELECT j.job_id::text, status, attempts, attempts_excused, f.epoch, cancel_requested, queued,"
            " (SELECT count(*) FROM penstock.procrastinate_jobs q WHERE status = 'todo' AND args ->> 'job_id' = j.job_id::text) AS waiting,"
            " (SELECT count(*) FROM penstock.attempts a WHERE a.job_id = j.job_id) AS counted,"
            " ARRAY(SELECT a.epoch FROM penstock.attempts a WHERE a.job_id = j.job_id AND ended_at IS NULL) AS open"
            " FROM penstock.jobs j JOIN penstock.fences f USING (job_id)"
        )
        assert {row["job_id"] for row in rows} == set(self.jobs)
        for row in rows:
            job_id, k = JobId(row["job_id"]), self.jobs[JobId(row["job_id"])]
            found = (row["status"], row["attempts"], row["attempts_excused"], row["epoch"], row["cancel_requested"], row["waiting"])
            assert found == (k.status, k.attempts, k.excused, k.epoch, k.cancel, k.waiting), k
            assert (row["queued"], row["counted"]) == (k.queued, k.attempts)
            assert row["open"] in ([], [] if k.status.finished else [k.epoch])
            status, epoch = self.before.get(job_id, (P, 0))
            assert k.status in LEGAL[status]
            assert k.epoch >= epoch
            self.before[job_id] = (k.status, k.epoch)

    @invariant()
    def rows_are_what_receipts_say(self) -> None:
        """And at least what was told as progress."""
        landed = self.landed()
        expected: dict[str, str] = {}
        for job_id, known in self.jobs.items():
            for row in sorted(landed[job_id]):
                if row % BAD_EVERY:
                    r = record(known.number, row)
                    expected[r["code"]] = r["title"]
            rejected = self.rows(f"SELECT row FROM penstock.rejected WHERE job_id = '{job_id}' ORDER BY row")
            assert [r["row"] for r in rejected] == [row for row in sorted(landed[job_id]) if row % BAD_EVERY == 0]
            assert known.status is not C or known.export or landed[job_id] == set(range(1, RECORDS + 1))
        rows = self.rows("SELECT code, title, (SELECT count(*) FROM parts WHERE thing_id = t.id) AS parts FROM things t")
        assert {r["code"]: r["title"] for r in rows} == expected
        assert all(r["parts"] == 1 for r in rows)
        for attempt in self.attempts:
            assert set(range(1, attempt.seen_rows + 1)) <= landed[attempt.job_id]

    @invariant()
    def completed_exports_have_their_files(self) -> None:
        """One each, whole, and no other job has any; no object is without its row."""
        rows = {row["key"]: row for row in self.rows("SELECT key, size, sha256 FROM penstock.files WHERE kind = 'EXPORT'")}
        assert set(self.objects()) <= set(rows)
        for job_id, known in self.jobs.items():
            file = self.exports.get(job_id).file
            assert (file is not None) == (known.export and known.status is C)
            if file is not None:
                content = b"".join(self.storage.read(Key(file.key)))
                found = (len(content), hashlib.sha256(content).hexdigest())
                assert (file.size, file.sha256) == found == (rows[file.key]["size"], rows[file.key]["sha256"])

    def landed(self) -> dict[JobId, set[int]]:
        """Numbers of the records that have a receipt; no record has two."""
        found: dict[JobId, set[int]] = {job_id: set() for job_id in self.jobs}
        for r in self.rows(
            "SELECT r.job_id::text, partition, partitions, start_row, end_row, tied, records FROM penstock.receipts r"
            " JOIN penstock.waves w USING (job_id, wave)"
        ):
            of_wave = range(r["start_row"], r["end_row"])
            mine = set(r["tied"]) if r["partition"] == r["partitions"] else set(of_wave) - set(r["tied"])
            assert len(mine) == r["records"], r
            assert not mine & found[JobId(r["job_id"])]
            found[JobId(r["job_id"])] |= mine
        return found

    def teardown(self) -> None:
        """Calm: late ones come to nothing, a sweep brings back every queued job, and all jobs end."""
        if not self.jobs:
            return
        for attempt in list(self.attempts):
            if self.jobs[attempt.job_id].owner is not attempt:
                attempt.go(Stop.END)
                self.look(attempt)
                self.ledger_is_the_model()
                self.rows_are_what_receipts_say()
            else:
                attempt.die()
        self.execute("UPDATE penstock.attempts SET lease_until = now() - interval '1 s', ended_at = ended_at - interval '1 hour'")
        Sweeper(self.site.application).sweep()
        entries = {r["job_id"] for r in self.rows("SELECT args ->> 'job_id' AS job_id FROM penstock.procrastinate_jobs")}
        for job_id, known in self.jobs.items():
            if not known.status.finished:
                assert job_id in entries or not known.queued
                done = Attempt(self.service(known), job_id, HERE, max_attempts=None).start()
                done.go(Stop.END)
                assert isinstance(done.result, Job), done.result
                known.status = done.result.status
                assert known.status is (X if known.cancel else C)
        self.attempts.clear()
        self.rows_are_what_receipts_say()
        self.completed_exports_have_their_files()


@pytest.fixture
def machine(database: str, tmp_path: Path) -> Iterator[Callable[[], Machine]]:
    site = Site(database, tmp_path)
    with stepping(), psycopg.connect(database, autocommit=True) as admin:
        yield lambda: Machine(site, admin)
    site.close()


@pytest.mark.timeout(300)
def test_any_sequence(machine: Callable[[], Machine]) -> None:
    """Claims, waves, ends of leases, takeovers, deaths, cancels, retries, lies of the queue, sweeps: the ledger is the model after each."""
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # a factory will do, its documentation says
        settings=settings(
            max_examples=20,
            stateful_step_count=50,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
