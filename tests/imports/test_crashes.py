"""kill -9 at every place where a process can die, then the same command again: no record lost, none twice."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.crashpoints import CrashPoint
from tests.imports.checker import check, thing
from tests.imports.world import World
from tests.support.commands import Penstock
from tests.support.waiting import until

COUNT = 1200
FINISHED = 3  # exit status: finished, with rejected records
# What only a worker passes: tests/workers, tests/exports, and for events tests/service.
IN_WORKERS = {
    CrashPoint.EXPORT_COUNTED,
    CrashPoint.EXPORT_WRITTEN,
    CrashPoint.EXPORT_COMPLETING,
    CrashPoint.EXPORT_COMPLETED,
    CrashPoint.SOURCE_FETCHED,
    CrashPoint.JOB_HANDED_OVER,
    CrashPoint.REPORT_PACKED,
    CrashPoint.REPORT_PUBLISHED,
    CrashPoint.FILE_REMOVED,
    CrashPoint.EVENTS_STORED,
    CrashPoint.EVENTS_APPLIED,
    CrashPoint.EVENTS_COMMITTED,
    CrashPoint.DEAD_LETTERS_RETURNED,
}
PASSED = [point for point in CrashPoint if point not in IN_WORKERS]
# A run passes these once, the others in every wave.
ONCE = {CrashPoint.JOB_CREATED, CrashPoint.JOB_CLAIMED, CrashPoint.JOB_COMPLETING, CrashPoint.JOB_COMPLETED}
# Where a process that sleeps holds nothing, and where it holds an open transaction.
ASLEEP = [CrashPoint.WAVE_DONE, CrashPoint.PARTITION_MERGED, CrashPoint.JOB_COMPLETING]
AS_ONE = {
    CrashPoint.WAVE_PREPARED,
    CrashPoint.WAVE_PLANNED,
    CrashPoint.PARTITION_MERGED,
    CrashPoint.JOB_COMPLETING,
    CrashPoint.JOB_COMPLETED,
}


@pytest.fixture
def durable_world(durable_database: str, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "resources").mkdir()
    made = World(durable_database, tmp_path / "resources")
    yield made
    made.close()


def environment(world: World, **more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": world.conninfo,
        "PENSTOCK_RESOURCES": str(world.folder),
        "IMPORT_CHUNK_SIZE": "8192",  # a wave is six chunks: three waves
        "IMPORT_WORKERS": "2",
        **more,
    }


def write_file(world: World, *, good_only: bool = False) -> Path:
    records = [thing(n) for n in range(1, COUNT + 1)]
    if good_only:
        records = [r for r in records if len(str(r["title"])) < 10]
    path = world.folder / "things.ndjson"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.mark.parametrize(("point", "hit"), [(point, hit) for point in PASSED for hit in ((1,) if point in ONCE else (1, 2))])
def test_killed_at(durable_world: World, run_penstock: Penstock, point: CrashPoint, hit: int) -> None:
    """Whatever the moment of death, the next run ends with the whole file landed exactly once."""
    path = write_file(durable_world)
    killed = run_penstock("import", "things", path, env=environment(durable_world, CRASH_AT=f"{point}:{hit}"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (interrupted,) = durable_world.rows("SELECT job_id::text, status FROM penstock.jobs")
    resumed = run_penstock("import", "things", path, "--json", env=environment(durable_world))
    if point is CrashPoint.JOB_COMPLETED:
        assert interrupted["status"] == "COMPLETED"
        check(durable_world, interrupted["job_id"], COUNT)
        return
    assert resumed.returncode == FINISHED, resumed.stderr
    assert len(durable_world.rows("SELECT FROM penstock.jobs")) == 1
    check(durable_world, interrupted["job_id"], COUNT)


@pytest.mark.parametrize("option", ["--atomic", "--dry-run"])
@pytest.mark.parametrize("point", sorted(AS_ONE))
def test_killed_in_one_transaction(durable_world: World, run_penstock: Penstock, point: CrashPoint, option: str) -> None:
    """An import that lands as a whole leaves nothing when it is killed, and everything (or, rehearsed, nothing) when it is run again."""
    path = write_file(durable_world, good_only=True)
    killed = run_penstock("import", "things", path, option, env=environment(durable_world, CRASH_AT=point))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if point is not CrashPoint.JOB_COMPLETED:
        assert durable_world.rows("SELECT FROM things") == []
    resumed = run_penstock("import", "things", path, option, "--json", env=environment(durable_world))
    assert resumed.returncode == 0, resumed.stderr
    codes = {str(r["code"]) for r in map(json.loads, path.read_text().splitlines())}
    assert len(durable_world.rows("SELECT FROM things")) == (len(codes) if option == "--atomic" else 0)


@pytest.mark.parametrize("point", ASLEEP)
def test_sleeper_that_lost_its_lease(durable_world: World, run_penstock: Penstock, point: CrashPoint) -> None:
    """Stopped past its lease while another process takes over and finishes, then continued: it says so and writes nothing."""
    path = write_file(durable_world)
    lease = {"IMPORT_JOB_LEASE_SECONDS": "2"}
    sleeper = run_penstock.start("import", "things", path, env=environment(durable_world, PAUSE_AT=f"{point}:1", **lease))
    assert until(lambda: state_of(sleeper.pid) == "T")
    second = run_penstock("import", "things", path, "--json", env=environment(durable_world, **lease))
    assert second.returncode == FINISHED, second.stderr
    (job,) = durable_world.rows("SELECT job_id::text FROM penstock.jobs")
    check(durable_world, job["job_id"], COUNT)
    sleeper.send_signal(signal.SIGCONT)
    _, told = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 1, told
    assert "another attempt has taken over" in told.lower()
    check(durable_world, job["job_id"], COUNT)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
