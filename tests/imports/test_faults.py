"""Takeovers, lost replies, cut connections, writers that get in the way: exact all the same."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from penstock.database.embedded import EmbeddedPostgres
from penstock.errors import CancelledError, InvalidStateError, LeaseLostError, UnbalancedBooksError
from penstock.formats.model import ReadOptions
from penstock.imports import free, report
from penstock.imports.merging import WaveMerger
from penstock.imports.service import Progress
from penstock.jobs.model import ImportOptions, JobStatus, Mode, OnError
from penstock.lifecycle.statements import SQL
from tests.imports.checker import check, thing
from tests.imports.world import World, books, ignore
from tests.support.proxy import Loss, Proxy

COUNT = 600


def things(world: World, count: int = COUNT) -> Path:
    return world.file(thing(n) for n in range(1, count + 1))


def created(world: World, path: Path, options: ImportOptions | None = None, **engine: Any) -> tuple[Any, Any]:
    imports = world.imports(chunk_bytes=1024, **engine)  # ten waves
    return imports, imports.create("things", str(path), read=ReadOptions(), options=options or ImportOptions())


def test_attempt_that_lost_its_lease_writes_nothing_more(world: World) -> None:
    """Another epoch is raised between two waves: the late one drops its work, and the next attempt finishes exactly."""
    imports, job = created(world, things(world))

    def take_over(_progress: object) -> None:
        with world.database.connect(autocommit=True) as connection:
            connection.execute(SQL["raise_fence"], {"job_id": job.job_id})

    with pytest.raises(LeaseLostError):
        imports.run(job.job_id, progress=take_over, cancel=threading.Event())
    (first,) = world.rows("SELECT count(*) AS waves FROM penstock.waves")
    assert first["waves"] == 1
    world.execute("UPDATE penstock.attempts SET lease_until = now() - interval '1 second'")
    imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    check(world, job.job_id, COUNT)


def test_job_under_a_live_lease_is_not_taken(world: World) -> None:
    """Whoever comes second waits for the lease of an owner that lives elsewhere, and is told."""
    imports, job = created(world, things(world, 5), lease_seconds=2)
    waited: list[float] = []
    world.execute(
        f"INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until)"
        f" VALUES ('{job.job_id}', 1, 'elsewhere', 1, '1', now() + interval '1 hour')"
    )
    world.execute("UPDATE penstock.fences SET epoch = 1")
    with pytest.raises(InvalidStateError):
        imports.run(job.job_id, progress=ignore, cancel=threading.Event(), waiting=waited.append)
    assert waited
    cancel = threading.Event()
    with pytest.raises(CancelledError):
        imports.run(job.job_id, progress=ignore, cancel=cancel, waiting=lambda _: cancel.set())


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.REPLY])
@pytest.mark.parametrize("nth", range(1, 9))
def test_lost_commit(database: str, tmp_path: Path, proxied: Callable[[str], Proxy], loss: Loss, nth: int) -> None:
    """A COMMIT that is lost, or whose reply is: the ledger is read again; nothing is doubled and nothing is called failed."""
    proxy = proxied(database)
    world = World(proxy.conninfo, tmp_path)
    imports, job = created(world, things(world))
    waves: list[object] = []

    def lose(progress: object) -> None:
        waves.append(progress)
        if len(waves) == nth:
            proxy.lose_commit(loss)

    finished = imports.run(job.job_id, progress=lose, cancel=threading.Event())
    assert finished.status is JobStatus.COMPLETED, finished.error
    assert proxy.lost.is_set()
    check(world, job.job_id, COUNT)
    world.close()


def test_connections_cut_between_waves(database: str, tmp_path: Path, proxied: Callable[[str], Proxy]) -> None:
    """Every connection breaks after every wave; the import goes on with new ones."""
    proxy = proxied(database)
    world = World(proxy.conninfo, tmp_path)
    imports, job = created(world, things(world))
    imports.run(job.job_id, progress=lambda _: proxy.cut(), cancel=threading.Event())
    check(world, job.job_id, COUNT)
    world.close()


def test_server_that_crashes_loses_nothing(data_dir: Path, tmp_path: Path) -> None:
    """A backend is killed after every wave: the whole server restarts from its log, without the commits that had not reached the disk."""
    with EmbeddedPostgres(data_dir) as server:
        world = World(server.conninfo, tmp_path)
        imports, job = created(world, things(world))

        def crash(_progress: object) -> None:
            with psycopg.connect(server.conninfo, autocommit=True) as connection:
                os.kill(connection.info.backend_pid, signal.SIGKILL)

        assert imports.run(job.job_id, progress=crash, cancel=threading.Event()).status is JobStatus.COMPLETED
        check(world, job.job_id, COUNT)
        world.close()


def test_backends_terminated_in_the_middle_of_merging(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a connection between a partition's rows and its receipt: the rows go with it, and the partition is done again."""
    ended: list[int] = []
    insert_new = free.insert_new

    def insert_and_die(unit: Any, frame: Any) -> None:
        insert_new(unit, frame)
        if len(ended) < 3:
            ended.append(unit.connection.info.backend_pid)
            world.execute(f"SELECT pg_terminate_backend({ended[-1]})")

    monkeypatch.setattr(free, "insert_new", insert_and_die)
    imports, job = created(world, things(world))
    imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    assert len(ended) == 3
    check(world, job.job_id, COUNT)


def test_rows_that_others_insert_meanwhile_are_resolved_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer takes a key between resolving and inserting: the record becomes an update, not an error."""
    resolve = free._resolve
    raced: list[str] = []

    def resolve_then_race(unit: Any, frame: Any, *, compare: bool) -> Any:
        found = resolve(unit, frame, compare=compare)
        if not raced and "a" in frame["code"]:
            raced.append("a")
            world.execute(f"INSERT INTO things (code, title) VALUES ('{raced[0]}', 'theirs')")
        return found

    monkeypatch.setattr(free, "_resolve", resolve_then_race)
    world.execute("INSERT INTO things (code, title) VALUES ('zz', 'z')")
    records = [{"code": "zz", "title": "mine"}, *({"code": c, "title": "mine"} for c in ("a", "b", "c"))]
    job = world.run("things", records, ImportOptions(mode=Mode.UPSERT))
    assert raced
    assert books(job) == (2, 2, 0, 0)
    assert {r["title"] for r in world.rows("SELECT title FROM things")} == {"mine"}


def test_parent_deleted_meanwhile_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner that was found is gone at the write: looked up again, and then the record is what is wrong, not the job."""
    world.execute("INSERT INTO owners (email) VALUES ('ann@example.com')")
    insert_new = free.insert_new

    def delete_then_insert(unit: Any, frame: Any) -> None:
        world.execute("DELETE FROM owners")
        insert_new(unit, frame)

    monkeypatch.setattr(free, "insert_new", delete_then_insert)
    job = world.run("things", [{"code": "a", "title": "t", "owner_email": "ann@example.com"}, {"code": "b", "title": "t"}])
    assert job.status is JobStatus.COMPLETED, job.error
    assert books(job) == (1, 0, 0, 1)
    assert [e["code"] for e in job.errors] == ["invalid_owner_id"]


def test_two_imports_of_the_same_keys_in_other_order(world: World, tmp_path: Path) -> None:
    """Neither deadlocks the other, and every row is one of the two."""
    codes = [chr(97 + a) + chr(97 + b) + chr(97 + c) for a in range(10) for b in range(10) for c in range(10)]
    paths = [world.folder / f"{name}.ndjson" for name in ("up", "down")]
    for path, order in zip(paths, (codes, codes[::-1]), strict=True):
        path.write_text("".join(f'{{"code": "{code}", "title": "{path.stem}"}}\n' for code in order))
    imports = world.imports(chunk_bytes=8192)
    jobs = [imports.create("things", str(path), read=ReadOptions(), options=ImportOptions()) for path in paths]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda job=job: results.append(imports.run(job.job_id, progress=ignore, cancel=threading.Event())))
        for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [job.status for job in results] == [JobStatus.COMPLETED] * 2
    assert sum(job.imported_rows for job in results) == len(codes)
    assert sum(job.imported_rows + job.updated_rows for job in results) == 2 * len(codes)
    assert {r["title"] for r in world.rows("SELECT title FROM things")} <= {"up", "down"}


def test_constraint_that_the_resource_does_not_know_fails_with_a_reason(world: World) -> None:
    """A unique index of the team's own: the job ends with a clear error instead of trying for ever."""
    world.execute("CREATE UNIQUE INDEX own ON things (note)")
    job = world.run("things", [{"code": "a", "title": "t", "note": "n"}, {"code": "b", "title": "t", "note": "n"}])
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "database_refused"
    assert "own" in job.error.message


def test_cancelled_job_goes_on_where_it_stopped(world: World) -> None:
    """Cancel takes effect after the wave in flight; reopened, the job does the rest and nothing twice."""
    imports, job = created(world, things(world))
    cancel = threading.Event()
    stopped = imports.run(job.job_id, progress=lambda _: cancel.set(), cancel=cancel)
    assert stopped.status is JobStatus.CANCELLED
    imported, *_ = books(stopped)
    assert 0 < imported < COUNT
    imports.reopen(job.job_id)
    imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    check(world, job.job_id, COUNT)


def test_cancel_from_outside_reaches_the_attempt(world: World) -> None:
    """`penstock cancel` in another process: the heartbeat brings the wish."""
    imports, job = created(world, things(world), lease_seconds=2)
    asked: list[object] = []
    cancel = threading.Event()

    def ask(progress: object) -> None:
        if not asked:
            asked.append(progress)
            imports.cancel(job.job_id)
            assert cancel.wait(10)

    assert imports.run(job.job_id, progress=ask, cancel=cancel).status is JobStatus.CANCELLED


def test_cancel_of_a_job_that_nobody_works_on(world: World) -> None:
    """Granted at once, with the books as they are; a second time it is too late."""
    imports, job = created(world, things(world))
    cancelled = imports.cancel(job.job_id)
    assert cancelled.status is JobStatus.CANCELLED
    assert books(cancelled) == (0, 0, 0, 0)
    with pytest.raises(InvalidStateError):
        imports.cancel(job.job_id)


def test_abort_stops_before_the_wave_of_the_bad_record(world: World) -> None:
    """What was committed before stays; the bad record is reported; the books balance."""
    records = [{"code": f"a{chr(97 + n % 26)}{chr(97 + n // 26)}", "title": "t"} for n in range(400)]
    records[300]["title"] = "far too long for it"
    imports = world.imports(chunk_bytes=1024)
    job = world.run("things", records, ImportOptions(on_error=OnError.ABORT), imports=imports)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "rejected_records"
    imported, updated, _, failed = books(job)
    assert (updated, failed) == (0, 1)
    assert 0 < imported <= 300
    assert len(world.rows("SELECT FROM things")) == imported
    assert [e["row"] for e in imports.errors(job.job_id)] == [301]


def test_too_many_errors(world: World) -> None:
    """Past the limit the job fails; at the limit it does not."""
    records = [{"code": chr(97 + n), "title": "t" if n % 2 else "far too long for it"} for n in range(10)]
    assert world.run("things", records, ImportOptions(max_errors=5)).status is JobStatus.COMPLETED
    job = world.run("things", records, ImportOptions(max_errors=4))
    assert job.error is not None
    assert job.error.code == "too_many_errors"
    books(job)


@pytest.mark.parametrize("atomic", [True, False])
def test_atomic_lands_whole_or_not_at_all(world: World, *, atomic: bool) -> None:
    """One bad record among many, known only to the database: atomic imports nothing, and still reports every bad record."""
    records: list[dict[str, Any]] = [{"code": chr(97 + n), "title": "t"} for n in range(20)]
    records[7]["owner_email"] = "nobody@example.com"
    records[19]["title"] = "far too long for it"
    imports = world.imports(chunk_bytes=100)
    job = world.run("things", records, ImportOptions(atomic=atomic), imports=imports)
    assert job.status is (JobStatus.FAILED if atomic else JobStatus.COMPLETED)
    assert books(job) == ((0, 0, 0, 2) if atomic else (18, 0, 0, 2))
    assert len(world.rows("SELECT FROM things")) == (0 if atomic else 18)
    assert [e["row"] for e in imports.errors(job.job_id)] == [8, 20]


@pytest.mark.parametrize("atomic", [True, False])
def test_dry_run_reports_what_the_real_run_does(world: World, *, atomic: bool) -> None:
    """Books and report are the same; the tables are untouched."""
    world.run("things", [{"code": "a", "title": "t"}, {"code": "b", "title": "t"}])
    records: list[dict[str, Any]] = [
        {"code": "a", "title": "t"}, {"code": "b", "title": "new"}, {"code": "c", "title": "t"}, {"code": "c", "title": "u"},
        {"code": "d", "title": "t", "owner_email": "nobody@example.com"},
    ]  # fmt: skip
    before = world.rows("SELECT * FROM things ORDER BY code")
    rehearsed = world.run("things", records, ImportOptions(dry_run=True, atomic=atomic))
    assert world.rows("SELECT * FROM things ORDER BY code") == before
    real = world.run("things", records, ImportOptions(atomic=atomic))
    assert (rehearsed.status, books(rehearsed)) == (real.status, books(real))
    assert rehearsed.errors == real.errors


def test_import_whose_books_do_not_balance_fails_loudly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that was read and is in no receipt: the job is FAILED and the caller gets the error."""
    real = WaveMerger._new_plan

    def lose_a_record(self: WaveMerger, wave: Any) -> Any:
        object.__setattr__(wave, "good", wave.good.head(wave.good.height - 1))
        return real(self, wave)

    monkeypatch.setattr(WaveMerger, "_new_plan", lose_a_record)
    imports, job = created(world, things(world, 5))
    with pytest.raises(UnbalancedBooksError):
        imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    failed = imports.get(job.job_id)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.imported_rows) == (JobStatus.FAILED, "unbalanced_books", 4)


def test_books_that_do_not_balance_are_refused_by_the_database(world: World) -> None:
    """The CHECK holds it, whoever writes: a finished job accounts for every record."""
    job = world.run("things", [{"code": "a", "title": "t"}])
    with pytest.raises(psycopg.errors.CheckViolation):
        world.execute(f"UPDATE penstock.jobs SET imported_rows = 2 WHERE job_id = '{job.job_id}'")
    with pytest.raises(psycopg.errors.CheckViolation):
        world.execute(f"UPDATE penstock.jobs SET failed_rows = 1, imported_rows = 0 WHERE job_id = '{job.job_id}'")


def test_report_is_read_in_pages_of_bounded_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever bounds a page, by records or by bytes, every error comes once and in order."""
    job = world.run("things", [{"code": "a", "title": "much too long a title", "note": "n" * n} for n in range(40)])
    imports = world.imports()
    for rows, size in ((500, 1), (500, 300), (7, 10**6), (1, 1)):
        monkeypatch.setattr(report, "_PAGE", rows)
        monkeypatch.setattr(report, "_PAGE_BYTES", size)
        assert [e["row"] for e in imports.errors(job.job_id)] == list(range(1, 41))


def test_a_cancel_behind_the_last_wave_is_kept(world: World) -> None:
    """Whoever was told that the job stops does not find it completed; what has landed stays, and a retry only ends it."""
    imports, job = created(world, things(world, 20))
    cancel = threading.Event()

    def ask(progress: Progress) -> None:
        if progress.processed_rows == 20:
            cancel.set()

    cancelled = imports.run(job.job_id, progress=ask, cancel=cancel)
    assert (cancelled.status, cancelled.processed_rows) == (JobStatus.CANCELLED, 20)
    landed = books(cancelled)
    imports.reopen(job.job_id)
    finished = imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    assert (finished.status, books(finished)) == (JobStatus.COMPLETED, landed)
