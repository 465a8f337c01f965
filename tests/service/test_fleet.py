"""Many imports, several workers, two of which misbehave: exact results, nothing doubled, and a log that says what happened."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.imports.checker import letters
from tests.imports.world import World
from tests.support.commands import Penstock
from tests.support.serving import Served, serving
from tests.support.waiting import until

JOBS, RECORDS, BAD_EVERY = 10, 600, 25


@pytest.fixture
def world(durable_database: str, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "resources").mkdir()
    made = World(durable_database, tmp_path / "resources")
    yield made
    made.close()


def environment(world: World, folder: Path, **more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": world.conninfo,
        "PENSTOCK_RESOURCES": str(world.folder),
        "PENSTOCK_DATA_DIR": str(folder / "shared"),
        "IMPORT_CHUNK_SIZE": "4096",  # several waves a file
        "IMPORT_JOB_LEASE_SECONDS": "2",
        "LOG_FORMAT": "json",
        **more,
    }


def records(job: int) -> list[dict[str, str]]:
    """Every 25th is bad; no two jobs share a key."""
    return [
        {"code": letters(job * RECORDS + n), "title": "far too long a title" if n % BAD_EVERY == 0 else f"t{n}", "note": "n" * 60}
        for n in range(RECORDS)
    ]


def send(served: Served, job: int) -> str:
    body = "".join(json.dumps(record) + "\n" for record in records(job)).encode()
    answer = served.http.post("/v1/imports", data={"resource": "things"}, files={"file": (f"{job}.ndjson", body)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


class Log:
    """What a process writes to standard error, read as it comes, so that the pipe never fills."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, args=[process])
        self._thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def says(self, event: str) -> bool:
        return any(line["event"] == event for line in self.lines)

    def close(self) -> None:
        self._thread.join(10)


def finished(http: httpx.Client, jobs: list[str]) -> bool:
    return all(http.get(f"/v1/imports/{job}").json()["status"] not in ("PENDING", "PROCESSING") for job in jobs)


def check(world: World, http: httpx.Client, jobs: list[str]) -> None:
    """Each record stands in the table once, or in the report of its job once; the books of every job balance."""
    good = [r for n in range(JOBS) for r in records(n) if len(r["title"]) < 10]
    stored = world.rows("SELECT code, title FROM things ORDER BY code")
    assert [(r["code"], r["title"]) for r in stored] == sorted((r["code"], r["title"]) for r in good)
    for job in jobs:
        seen = http.get(f"/v1/imports/{job}").json()
        assert seen["status"] == "COMPLETED", seen["error"]
        bad = RECORDS // BAD_EVERY
        assert (seen["processed_rows"], seen["imported_rows"], seen["failed_rows"]) == (RECORDS, RECORDS - bad, bad)
        report = [json.loads(line) for line in http.get(f"/v1/imports/{job}/errors").text.splitlines()]
        assert [line["row"] for line in report] == [n + 1 for n in range(RECORDS) if n % BAD_EVERY == 0]


def test_a_killed_and_a_paused_worker(world: World, run_penstock: Penstock, tmp_path: Path) -> None:
    """Ten imports at once over a server and two workers. One worker dies by SIGKILL in a merge, one sleeps past its lease and wakes up: the
    others take over, and what it then tries to write is refused.
    """
    with serving(run_penstock, env=environment(world, tmp_path)) as served:
        dying = run_penstock.start("worker", env=environment(world, tmp_path, CRASH_AT="partition-merged:4"))
        sleeping = run_penstock.start("worker", env=environment(world, tmp_path, PAUSE_AT="wave-done:2"))
        logs = [Log(dying), Log(sleeping)]
        assert until(lambda: all(log.says("worker started") for log in logs))
        jobs = [send(served, n) for n in range(JOBS)]
        assert dying.wait(60) == -signal.SIGKILL
        assert until(lambda: stopped(sleeping.pid), 60)
        assert until(lambda: finished(served.http, jobs), 90)
        check(world, served.http, jobs)
        sleeping.send_signal(signal.SIGCONT)
        assert until(lambda: logs[1].says("late work dropped: another attempt has the job")), logs[1].lines
        check(world, served.http, jobs)
        attempts = world.rows("SELECT count(*) AS n FROM penstock.attempts WHERE outcome = 'lost'")[0]["n"]
        assert attempts >= 2  # at least one of each worker's
        assert until(lambda: any(line["event"] == "job taken over" for line in [*served.lines, *logs[1].lines]))
        sleeping.terminate()
        assert sleeping.wait(60) == 0
        for log in logs:
            log.close()


def stopped(pid: int) -> bool:
    """Whether SIGSTOP has taken effect."""
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T"


def test_twenty_requests_with_one_key(world: World, run_penstock: Penstock, tmp_path: Path) -> None:
    """However they race, one job is made; those that come while it is received are told so, the later ones get that job."""
    body = b'{"code": "aaaaa", "title": "one"}\n'
    answers: list[httpx.Response] = []
    with serving(run_penstock, env=environment(world, tmp_path)) as served:
        start = threading.Barrier(20)

        def ask() -> None:
            with httpx.Client(base_url=served.url, timeout=30) as http:
                start.wait(30)
                answers.append(
                    http.post(
                        "/v1/imports",
                        data={"resource": "things"},
                        files={"file": ("one.ndjson", body)},
                        headers={"Idempotency-Key": "the-same"},
                    )
                )

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted({answer.status_code for answer in answers} - {200, 409}) == [202]
        assert sum(answer.status_code == 202 for answer in answers) == 1
        assert len({answer.json()["job_id"] for answer in answers if answer.status_code != 409}) == 1
        assert world.rows("SELECT count(*) AS n FROM penstock.jobs")[0]["n"] == 1
        deadline = time.monotonic() + 30
        while world.rows("SELECT status FROM penstock.jobs")[0]["status"] != "COMPLETED":
            assert time.monotonic() < deadline
