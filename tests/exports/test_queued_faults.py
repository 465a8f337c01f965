"""What breaks queued exports: values, resources, storage, the database. Each job says why, and no part of a file is left."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from penstock.bootstrap import Application
from penstock.crashpoints import CrashPoint
from penstock.database.connect import Database
from penstock.errors import (
    DatabaseUnavailableError,
    StorageUnavailableError,
)
from penstock.exports import statements
from penstock.formats.model import Format
from penstock.jobs.model import Job, JobStatus
from penstock.lifecycle.claiming import session_name
from penstock.storage import Key, StoredObject
from penstock.storage.local import LocalStorage
from penstock.workers.sweeping import Sweeper
from tests.exports.checker import check_file, check_nothing, direct, fill, objects, when, wishes
from tests.support.proxy import Loss, Proxy
from tests.workers.site import Site

COUNT = 1000


def run(site: Site, job: Job) -> Job:
    return site.application.exports.run(job.job_id, cancel=threading.Event())


def failed(site: Site, job: Job) -> tuple[str, str]:
    run(site, job)
    error = check_nothing(site, job.job_id, JobStatus.FAILED).error
    assert error is not None
    return error.code, error.message


def test_value_that_the_format_cannot_hold(site: Site) -> None:
    """The job fails with the field's name, at once and for good. Its books hold what was counted, and nothing of what was written."""
    site.world.execute("UPDATE things SET state = 'live', released_at = 'infinity' WHERE title = 't7'")
    job = site.application.exports.create(wishes(Format.PARQUET))
    code, message = failed(site, job)
    assert code == "unexportable_value"
    assert "released_at" in message
    ended = site.get(job.job_id)
    assert (ended.total_rows, ended.processed_rows, ended.processed_bytes, ended.progress) == (COUNT, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("""jsonb_set(options, '{fields}', '["code", "gone"]')""", "invalid_option", "things has no gone any more; it has id, code"),
        ("""jsonb_set(options, '{resource}', '"gone"')""", "unknown_resource", "gone"),
        ("""jsonb_set(options, '{format}', '"papyrus"')""", "invalid_option", "does not understand"),
        (
            """jsonb_set(options, '{conditions}', '[{"name": "gone", "operator": "eq", "values": ["x"]}]')""",
            "invalid_filter",
            "things cannot be filtered by gone any more",
        ),
        (
            """jsonb_set(options, '{conditions}', '[{"name": "owner_id", "operator": "eq", "values": ["x"]}]')""",
            "invalid_filter",
            "owner_id must be a UUID",
        ),
        (
            """jsonb_set(options, '{conditions}', '[{"name": "released_at", "operator": "like", "values": ["2024%"]}]')""",
            "invalid_filter",
            "operators of released_at are",
        ),
    ],
)
def test_what_was_asked_for_is_not_there_any_more(site: Site, change: str, code: str, said: str) -> None:
    """Between the asking and the run a resource may go, lose a field, or give it another type: the job says so."""
    job = site.application.exports.create(wishes())
    site.world.execute(f"UPDATE penstock.jobs SET options = {change}")
    assert (found := failed(site, job))[0] == code
    assert said in found[1]


@pytest.mark.parametrize(
    ("column", "kind", "using", "said"),
    [
        ("released_at", "date", "'2024-01-31'", "timestamp with time zone and is read as date"),
        ("released_at", "timestamp", "'2024-01-31'", "timestamp with time zone and is read as timestamp"),
        ("note", "jsonb", "'{}'", "text and is read as"),
        ("note", "integer", "1", "text and is read as int32"),
    ],
)
def test_table_that_was_altered(site: Site, column: str, kind: str, using: str, said: str) -> None:
    """Tables are checked at a start; what is altered after it is refused, since its values would be taken for others."""
    job = site.application.exports.create(wishes())
    site.world.execute("UPDATE things SET state = 'live'")
    site.world.execute(f"ALTER TABLE things ALTER {column} TYPE {kind} USING {using}")
    code, message = failed(site, job)
    assert code == "database_refused"
    assert f"{column} should be {said}" in message


def test_export_that_takes_too_long(site: Site) -> None:
    """EXPORT_TOTAL_SECONDS bounds it also where PostgreSQL gives nothing to look at the clock by."""
    site.application = site.applied(EXPORT_TOTAL_SECONDS="1")
    job = site.application.exports.create(wishes())
    with site.world.database.connect() as blocking:
        blocking.execute("LOCK TABLE things")
        code, message = failed(site, job)
    assert code == "export_timeout"
    assert "EXPORT_TOTAL_SECONDS" in message


def test_defect_fails_the_job(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is raised for the log, and told without internals."""
    job = site.application.exports.create(wishes())

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(LocalStorage, "write", broken)
    with pytest.raises(RuntimeError):
        run(site, job)
    error = check_nothing(site, job.job_id, JobStatus.FAILED).error
    assert error is not None
    assert (error.code, "defect" in error.message) == ("internal_error", False)


def test_file_that_no_row_names_any_more(site: Site) -> None:
    """It is never the job's: housekeeping would not find it."""
    job = site.application.exports.create(wishes())
    with when(CrashPoint.EXPORT_WRITTEN, lambda: site.world.execute("DELETE FROM penstock.files")):
        run(site, job)
    assert site.get(job.job_id).status is JobStatus.FAILED
    assert objects(site) == []


def test_records_that_do_not_add_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of other records than were counted is never the job's, whoever miscounted."""
    job = site.application.exports.create(wishes())
    monkeypatch.setattr(statements, "count", lambda *_: "SELECT 999::bigint")
    code, message = failed(site, job)
    assert code == "unbalanced_books"
    assert "1000 records where its snapshot has 999" in message


def test_storage_that_is_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt says why it ended and gives its lease back; the job is tried again after a pause, not at once."""
    job = site.application.exports.create(wishes())
    site.world.execute("DELETE FROM penstock.procrastinate_jobs")
    real = LocalStorage.write

    def away(self: LocalStorage, key: Key, chunks: Any, **more: Any) -> StoredObject:
        next(iter(chunks))
        raise StorageUnavailableError("the bucket is away")

    monkeypatch.setattr(LocalStorage, "write", away)
    with pytest.raises(StorageUnavailableError):
        run(site, job)
    monkeypatch.setattr(LocalStorage, "write", real)
    (attempt,) = site.world.rows("SELECT outcome, failure, lease_until <= now() AS over FROM penstock.attempts")
    assert (attempt["outcome"], attempt["failure"]["code"], attempt["over"]) == ("interrupted", "storage_unavailable", True)
    sweeper = Sweeper(site.application)
    sweeper.sweep()
    assert site.entries() == []
    site.world.execute("UPDATE penstock.attempts SET ended_at = ended_at - interval '11 seconds', lease_until = now()")
    sweeper.sweep()
    assert [row["version"] for row in site.world.rows("SELECT args ->> 'version' AS version FROM penstock.procrastinate_jobs")] == ["2"]
    with site.working():
        site.finished(job.job_id)
    check_file(site, job.job_id, direct(site, wishes()), COUNT)


def test_server_that_ends_its_session(site: Site) -> None:
    """The snapshot's connection breaks in the middle: the attempt leaves the job to another one, with nothing of its own."""
    site.world.execute("TRUNCATE things CASCADE")
    fill(site.world, 50_000)  # more than the buffers between take
    job = site.application.exports.create(wishes())
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{session_name(job.job_id)}'"
    with when(CrashPoint.EXPORT_COUNTED, lambda: site.world.execute(end)), pytest.raises(DatabaseUnavailableError):
        run(site, job)
    assert objects(site) == []
    assert site.attempts(job.job_id) == ["interrupted"]
    done = run(site, job)
    check_file(site, done.job_id, direct(site, wishes()), 50_000)


def test_reply_to_the_commit_is_lost(site: Site, proxied: Callable[[str], Proxy]) -> None:
    """The server has completed the job, and the attempt finds that out: it ends well, and the file stays."""
    proxy = proxied(site.world.conninfo)
    far = Application(site.settings(), site.world.registry, Database(proxy.conninfo, connect_seconds=3))
    job = site.application.exports.create(wishes())
    with when(CrashPoint.EXPORT_COMPLETING, lambda: proxy.lose_commit(Loss.REPLY)):
        assert far.exports.run(job.job_id, cancel=threading.Event()).status is JobStatus.COMPLETED
    assert proxy.lost.is_set()
    far.database.close()
    assert site.attempts(job.job_id) == ["COMPLETED"]
    check_file(site, job.job_id, direct(site, wishes()), COUNT)


def test_commit_is_lost(site: Site, proxied: Callable[[str], Proxy]) -> None:
    """It never took effect: it is done again."""
    proxy = proxied(site.world.conninfo)
    far = Application(site.settings(), site.world.registry, Database(proxy.conninfo, connect_seconds=3))
    job = site.application.exports.create(wishes())
    with when(CrashPoint.EXPORT_COMPLETING, lambda: proxy.lose_commit(Loss.REQUEST)):
        far.exports.run(job.job_id, cancel=threading.Event())
    assert proxy.lost.is_set()
    far.database.close()
    check_file(site, job.job_id, direct(site, wishes()), COUNT)
