"""Workers killed, paused, told to end and cut off at random while they import and export: nothing lost, nothing doubled, all jobs end.

The seed is printed; `PENSTOCK_TEST_SEED=<seed>` makes the same choices again (what the machine makes of them is its own affair).
"""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg

from penstock.bootstrap import Application
from penstock.jobs.model import JobId, JobStatus
from penstock.settings import load_settings
from penstock.storage import EXPORTS
from penstock.workers.housekeeping import Housekeeping
from tests.exports.checker import wishes
from tests.imports.checker import letters
from tests.imports.world import World
from tests.service.test_exports import stored
from tests.service.test_fleet import Log, environment, world
from tests.support.commands import Penstock
from tests.support.serving import Served, serving
from tests.support.waiting import until

__all__ = ["world"]  # the fixture

WORKERS, JOBS, EXPORTED, RECORDS = 4, 12, 6, 2000
BAD_EVERY, TWIN_EVERY, ATOMIC_EVERY = 30, 70, 5
CHAOS_SECONDS, CALM_SECONDS = 15.0, 90.0
SEED = "PENSTOCK_TEST_SEED"
LANDED = "SELECT coalesce(sum(records), 0) FROM penstock.receipts"
OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
# Jobs whose books differ from their attempts: each is counted once, hand-overs alone are excused.
MISCOUNTED = """
SELECT j.job_id FROM penstock.jobs j JOIN penstock.fences f USING (job_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS n, count(*) FILTER (WHERE outcome = 'handed over') AS excused FROM penstock.attempts a WHERE a.job_id = j.job_id
) a
WHERE (j.attempts, j.attempts, j.attempts_excused) <> (f.epoch, a.n, a.excused)
"""


def atomic(job: int) -> bool:
    return job % ATOMIC_EVERY == 0


def source_of(job: int) -> int:
    """Whose records a job has: its own, but the last job has those of the one before it."""
    return min(job, JOBS - 2)


def records(job: int) -> list[dict[str, Any]]:
    """Some are bad, but not in atomic imports; some come twice in their file, so that they are tied."""
    first = source_of(job) * RECORDS
    return [record(first, n, good_only=atomic(job)) for n in range(RECORDS)]


def record(first: int, n: int, *, good_only: bool) -> dict[str, Any]:
    if n % BAD_EVERY == 0 and not good_only:
        return {"code": letters(first + n), "title": "far too long a title"}
    twin = n - 1 if n % TWIN_EVERY == 2 else n
    return {"code": letters(first + twin), "title": f"t{n}", "note": "n" * 60, "parts": [{"label": "p"}]}


def bad_rows(job: int) -> list[int]:
    return [n + 1 for n, r in enumerate(records(job)) if len(r["title"]) > 9]


class Herd:
    """Worker processes, always as many; one that ends is replaced."""

    def __init__(self, start: Any) -> None:
        self._start = start
        self.workers = [self._new() for _ in range(WORKERS)]
        self.paused: dict[int, float] = {}  # until when, by place
        self.done: Counter[str] = Counter()

    def _new(self) -> tuple[subprocess.Popen[str], Log]:
        process = self._start()
        return process, Log(process)

    def strike(self, dice: random.Random) -> None:
        """Something happens to one of them that is not paused."""
        awake = [place for place in range(WORKERS) if place not in self.paused]
        if not awake:
            return
        place, kind = dice.choice(awake), dice.choice(["kill", "kill", "pause", "pause", "end"])
        process, _ = self.workers[place]
        self.done[kind] += 1
        if kind == "pause":
            process.send_signal(signal.SIGSTOP)
            self.paused[place] = time.monotonic() + dice.uniform(0.2, 5)  # the lease is 2 s
        else:
            process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)

    def look_after(self, *, wake_all: bool = False) -> None:
        """Wake those whose pause is over, replace those that have ended."""
        for place, end in list(self.paused.items()):
            if wake_all or time.monotonic() > end:
                self.workers[place][0].send_signal(signal.SIGCONT)
                del self.paused[place]
        for place, (process, log) in enumerate(self.workers):
            if process.poll() is not None:
                log.close()
                self.workers[place] = self._new()

    def end(self) -> None:
        for process, _ in self.workers:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process, log in self.workers:
            process.wait(60)
            log.close()


@contextmanager
def herd_of(run_penstock: Penstock, env: dict[str, str]) -> Iterator[Herd]:
    herd = Herd(lambda: run_penstock.start("worker", env=env))
    try:
        yield herd
    finally:
        herd.end()


def cut_off(admin: psycopg.Connection[Any], dice: random.Random, done: Counter[str]) -> None:
    """The database ends some connection, of whatever process."""
    if pids := sorted(pid for (pid,) in admin.execute(OTHERS)):
        admin.execute("SELECT pg_terminate_backend(%s)", [dice.choice(pids)])
        done["cut"] += 1


def send(http: httpx.Client, job: int) -> str:
    """As a careful client does: again with the same key until there is an answer about the job."""
    body = "".join(json.dumps(r) + "\n" for r in records(job)).encode()
    form = {"resource": "things", "atomic": "true"} if atomic(job) else {"resource": "things"}
    answers: list[httpx.Response] = []

    def accepted() -> bool:
        files = {"file": (f"{job}.ndjson", body)}
        answers.append(http.post("/v1/imports", data=form, files=files, headers={"Idempotency-Key": f"job-{job}"}))
        return answers[-1].is_success

    assert until(accepted), answers[-1].text
    return str(answers[-1].json()["job_id"])


def storm(herd: Herd, admin: psycopg.Connection[Any], dice: random.Random) -> None:
    """Strikes, each after the work got on a little or a moment has passed, until most of it is done or the time is over."""
    deadline = time.monotonic() + CHAOS_SECONDS
    landed = 0
    while landed < JOBS * RECORDS * 0.9 and time.monotonic() < deadline:
        got_on = partial(landed_so_far, admin, landed + dice.randrange(1, 2000))
        until(got_on, dice.uniform(0.1, 2))
        landed = count(admin, LANDED)
        herd.look_after()
        if dice.random() < 0.4:
            cut_off(admin, dice, herd.done)
        else:
            herd.strike(dice)


def landed_so_far(admin: psycopg.Connection[Any], wanted: int) -> bool:
    return count(admin, LANDED) >= wanted


def count(admin: psycopg.Connection[Any], statement: str) -> int:
    row = admin.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_random_kills(world: World, run_penstock: Penstock, tmp_path: Path) -> None:
    """Twelve imports and six exports over a server and four workers that come to harm all the time; then calm, and exact results."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1_000_000))
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it when the test fails
    dice = random.Random(seed)
    env = environment(
        world,
        tmp_path,
        MAX_JOB_ATTEMPTS="100",
        IMPORT_CHUNK_SIZE="2048",
        SHUTDOWN_GRACE_SECONDS="5",
        JOB_CONCURRENCY="2",
        IMPORT_WORKERS="4",
    )
    with (
        serving(run_penstock, "--no-worker", env=env) as served,
        psycopg.connect(world.conninfo, autocommit=True, application_name="checker") as admin,
        herd_of(run_penstock, env) as herd,
    ):
        here = Application(load_settings(env, Path("/nonexistent")), world.registry, world.database)
        exports, jobs = [], []
        for number in range(JOBS):
            jobs.append(send(served.http, number))
            if number % (JOBS // EXPORTED) == 0:
                exports.append(here.exports.create(wishes()).job_id)
        storm(herd, admin, dice)
        herd.look_after(wake_all=True)
        print(dict(herd.done), count(admin, "SELECT sum(attempts) FROM penstock.jobs"), "attempts")  # noqa: T201 - as above
        assert until(lambda: calm(herd, admin), CALM_SECONDS), story(admin)
        check_rows(admin)
        for number, job in enumerate(jobs):
            check_job(served, admin, number, job)
        check_exports(here, exports)
        check_ledger(admin)


def calm(herd: Herd, admin: psycopg.Connection[Any]) -> bool:
    """All jobs have ended and their reports are packed; nothing stays in the queue."""
    herd.look_after()
    open_jobs = "SELECT count(*) FROM penstock.jobs WHERE finished_at IS NULL"
    return count(admin, open_jobs) == 0 and count(admin, "SELECT count(*) FROM penstock.procrastinate_jobs") == 0


def story(admin: psycopg.Connection[Any]) -> str:
    """What stands where, when not all came to an end."""
    parts = [
        admin.execute(statement.encode()).fetchall()
        for statement in (
            "SELECT job_id::text, status, attempts, attempts_excused, processed_rows FROM penstock.jobs WHERE finished_at IS NULL",
            "SELECT a.* FROM penstock.attempts a JOIN penstock.jobs j USING (job_id) WHERE j.finished_at IS NULL ORDER BY job_id, epoch",
            "SELECT * FROM penstock.procrastinate_jobs",
            "SELECT pid, application_name, state, wait_event, query FROM pg_stat_activity WHERE datname = current_database()",
        )
    ]
    return "\n".join(str(row) for rows in parts for row in rows)


def check_rows(admin: psycopg.Connection[Any]) -> None:
    """The table is what the files say, each row once, with its one part."""
    expected = {str(r["code"]): str(r["title"]) for n in range(JOBS) for r in records(n) if len(str(r["title"])) < 10}
    rows = admin.execute("SELECT code, title, (SELECT count(*) FROM parts WHERE thing_id = t.id) FROM things t").fetchall()
    assert len(rows) == len(expected)
    assert {code: title for code, title, _ in rows} == expected
    assert {parts for _, _, parts in rows} == {1}


def check_job(served: Served, admin: psycopg.Connection[Any], number: int, job_id: str) -> None:
    """COMPLETED; counters, receipts, rejected records and report say the same."""
    seen = served.http.get(f"/v1/imports/{job_id}").json()
    assert seen["status"] == "COMPLETED", seen["error"]
    bad = bad_rows(number)
    assert (seen["processed_rows"], seen["total_rows"], seen["failed_rows"]) == (RECORDS, RECORDS, len(bad))
    assert seen["imported_rows"] + seen["updated_rows"] == RECORDS - len(bad)
    sums = admin.execute(
        "SELECT sum(records), sum(imported), sum(updated), sum(rejected) FROM penstock.receipts WHERE job_id = %s", [job_id]
    ).fetchone()
    assert sums == (RECORDS, seen["imported_rows"], seen["updated_rows"], len(bad))
    report = [json.loads(line)["row"] for line in served.http.get(f"/v1/imports/{job_id}/errors").text.splitlines()]
    assert report == bad
    rows = admin.execute("SELECT row FROM penstock.rejected WHERE job_id = %s ORDER BY row", [job_id]).fetchall()
    assert [row for (row,) in rows] == bad


def check_exports(here: Application, jobs: list[JobId]) -> None:
    """Each has one file, whole; whatever other attempts wrote goes."""
    for job_id in jobs:
        job = here.exports.get(job_id)
        assert job.status is JobStatus.COMPLETED, job.error
        assert len(stored(here, job_id).splitlines()) == job.processed_rows
    kept = sorted(file.key for job_id in jobs if (file := here.exports.get(job_id).file))

    def clean() -> bool:
        """Late ones may still be about to find out that they are late."""
        Housekeeping(here, threading.Event()).keep()
        return [found.key for found in here.storage.list(EXPORTS)] == kept

    assert until(clean), [found.key for found in here.storage.list(EXPORTS)]


def check_ledger(admin: psycopg.Connection[Any]) -> None:
    """Each attempt is counted once and has ended; hand-overs and nothing else are excused."""
    assert count(admin, "SELECT count(*) FROM penstock.attempts WHERE ended_at IS NULL OR outcome IS NULL") == 0
    assert admin.execute(MISCOUNTED).fetchall() == []
    imported, stored = count(admin, "SELECT sum(imported_rows) FROM penstock.jobs"), count(admin, "SELECT count(*) FROM things")
    assert imported == stored
