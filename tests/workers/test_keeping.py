"""What is past its time goes, whatever dies on the way; what is still needed stays."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from penstock.bootstrap import Application
from penstock.database.connect import Database, Limits
from penstock.errors import ObjectNotFoundError, StorageUnavailableError
from penstock.formats.model import ReadOptions
from penstock.intake.model import ReceivedFile
from penstock.jobs.model import ImportOptions, Job, JobStatus
from penstock.sources.places import InStorage
from penstock.storage.local import LocalStorage
from penstock.storage.model import Key
from penstock.workers.housekeeping import Housekeeping
from penstock.workers.packing import Packing
from tests.imports.checker import check, thing
from tests.imports.world import ignore
from tests.support.waiting import until
from tests.workers.site import COUNT, Site

KEEPING = """
import sys, threading
from pathlib import Path
from penstock.bootstrap import application
from penstock.settings import load_settings
from penstock.workers.housekeeping import Housekeeping
with application(load_settings(None, Path("/nonexistent"))) as here:
    Housekeeping(here, threading.Event()).keep()
"""


def keep(site: Site) -> None:
    Housekeeping(site.application, threading.Event()).keep()


def stored_job(site: Site, count: int = COUNT) -> tuple[Job, Key]:
    """A job whose file lies in storage, as an upload does."""
    key = Key(f"uploads/{uuid.uuid4()}/data.ndjson")
    path = site.file(thing(n) for n in range(1, count + 1))
    site.application.storage.write(key, [path.read_bytes()])
    with site.world.database.connect() as connection:
        connection.execute(
            "INSERT INTO penstock.files (key, kind, name, expires_at) VALUES (%s, 'SOURCE', 'things.ndjson', now() + interval '1 day')",
            [key],
        )
    place = InStorage(key=key, name="things.ndjson")
    file = ReceivedFile(key=key, name=place.name, size=path.stat().st_size, sha256=None)
    job = site.application.imports.create(
        "things",
        place,
        read=ReadOptions(),
        options=ImportOptions(),
        queued=True,
        within=lambda connection, job_id: site.application.files.attach(connection, file, job_id),
    )
    return job, key


def run(site: Site, job: Job) -> Job:
    done = site.application.imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    Packing(site.application).pack(job.job_id)
    return done


def test_file_in_storage_is_imported_and_kept_for_its_hours(site: Site) -> None:
    """The end of the job sets the time after which its file goes; not before."""
    job, key = stored_job(site)
    run(site, job)
    check(site.world, job.job_id, COUNT)
    (row,) = site.world.rows(
        "SELECT round(extract(epoch FROM expires_at - now()) / 3600) AS hours FROM penstock.files WHERE kind = 'SOURCE'"
    )
    assert row["hours"] == 168
    keep(site)
    assert site.application.storage.stat(key).size > 0


def test_files_past_their_time_go_with_what_points_to_them(site: Site) -> None:
    """Object, row and the job's link to the report; the job itself stays, and a retry says that its file is gone."""
    job, key = stored_job(site)
    done = run(site, job)
    report = site.get(done.job_id).report
    assert report is not None
    site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
    keep(site)
    assert site.world.rows("SELECT FROM penstock.files") == []
    assert site.get(job.job_id).report is None
    for gone in (key, Key(report.key)):
        with pytest.raises(ObjectNotFoundError):
            site.application.storage.stat(gone)
    site.world.execute("UPDATE penstock.jobs SET status = 'FAILED', failure = '{}'")
    site.application.imports.retry(job.job_id)
    failed = run(site, job)
    assert failed.error is not None
    assert (failed.error.code, failed.status) == ("file_changed", JobStatus.FAILED)
    assert "not there any more" in failed.error.message


def test_file_of_an_unfinished_job_stays(site: Site) -> None:
    """Past its time or not: also for the second job of one upload, which its row does not name."""
    _job, key = stored_job(site)
    site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
    keep(site)
    assert site.application.storage.stat(key).size > 0


def test_old_jobs_go_with_everything_of_theirs(site: Site) -> None:
    """After JOB_RETENTION_DAYS: books, rejected records, files, keys of requests; younger and unfinished ones stay."""
    old, key = stored_job(site, 100)
    run(site, old)
    young, _ = stored_job(site, 101)
    run(site, young)
    unfinished, _ = stored_job(site, 102)
    site.world.execute(
        "UPDATE penstock.jobs SET created_at = created_at - interval '91 days', finished_at = finished_at - interval '91 days'"
        f" WHERE job_id IN ('{old.job_id}', '{unfinished.job_id}')"
    )
    site.world.execute(
        "INSERT INTO penstock.idempotency_keys (principal, route, key, parameters, token, lease_until, created_at)"
        " SELECT 'a', 'r', n, '', gen_random_uuid(), stamp, stamp"
        " FROM (SELECT n, now() - n * interval '1 hour' AS stamp FROM unnest('{71,73}'::int[]) n) s"
    )
    keep(site)
    assert {str(row["job_id"]) for row in site.world.rows("SELECT job_id FROM penstock.jobs")} == {young.job_id, unfinished.job_id}
    for table in ("fences", "rejected", "receipts", "waves", "attempts", "files"):
        assert site.world.rows(f"SELECT FROM penstock.{table} WHERE job_id = '{old.job_id}'") == []
    with pytest.raises(ObjectNotFoundError):
        site.application.storage.stat(key)
    assert [row["key"] for row in site.world.rows("SELECT key FROM penstock.idempotency_keys ")] == ["71"]


def test_killed_between_object_and_row(durable_site: Site, tmp_path: Path) -> None:
    """The row stands, so the next round finds it."""
    job, _ = stored_job(durable_site, 50)
    run(durable_site, job)
    durable_site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
    environment = {"PATH": os.environ["PATH"], **durable_site.environment, "CRASH_AT": "file-removed:1"}
    died = subprocess.run([sys.executable, "-c", KEEPING], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    rows = durable_site.world.rows("SELECT key FROM penstock.files")
    assert len(rows) == 2

    def kept() -> bool:
        """The server may take a moment to notice the death, and until then the turn is not free."""
        keep(durable_site)
        return durable_site.world.rows("SELECT FROM penstock.files") == []

    assert until(kept)


def test_one_house_is_kept_by_one(site: Site) -> None:
    """While another worker has the turn, nothing is done and nobody waits."""
    with site.world.database.connect() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [0x70656E7300000002])
        job, _ = stored_job(site, 20)
        run(site, job)
        site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
        keep(site)
        assert len(site.world.rows("SELECT FROM penstock.files")) == 2
    keep(site)
    assert site.world.rows("SELECT FROM penstock.files") == []


def test_upload_stays_as_long_as_its_link(site: Site) -> None:
    """Its link may bring another file after the job's end, and after the job: without its row nobody would find that."""
    job, key = stored_job(site, 20)
    site.world.execute("UPDATE penstock.files SET upload_id = gen_random_uuid(), expires_at = now() + interval '30 days'")
    run(site, job)
    kept = "SELECT expires_at > now() + interval '29 days' AS kept FROM penstock.files WHERE kind = 'SOURCE'"
    assert site.world.rows(kept) == [{"kept": True}]
    site.world.execute("UPDATE penstock.jobs SET finished_at = finished_at - interval '91 days'")
    keep(site)
    assert site.world.rows("SELECT FROM penstock.jobs") == []
    assert site.world.rows(kept) == [{"kept": True}]
    assert site.application.storage.stat(key).size > 0


def test_storage_that_takes_its_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing a batch may take longer than a transaction of an import may stand still."""
    job, _ = stored_job(site, 20)
    run(site, job)
    site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
    still = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    real = LocalStorage.delete

    def delete(self: LocalStorage, key: Key) -> None:
        """Half a second longer than the database lets others stand still, or until it has ended the session."""
        assert until(lambda: not site.world.rows(f"{still} AND now() - state_change < interval '1500 ms'"))
        real(self, key)

    monkeypatch.setattr(LocalStorage, "delete", delete)
    with closing(Database(site.world.conninfo, limits=Limits(idle_in_transaction=1))) as hasty:
        Housekeeping(Application(site.application.settings, site.world.registry, hasty), threading.Event()).forget_files()
    assert site.world.rows("SELECT FROM penstock.files") == []


def test_file_that_cannot_be_removed_keeps_no_other(site: Site) -> None:
    """It is put off; the next round goes on behind it."""
    keys = [stored_job(site, 20)[1] for _ in range(2)]
    site.world.execute("DELETE FROM penstock.jobs")
    site.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
    site.world.execute(f"UPDATE penstock.files SET expires_at = now() - interval '1 minute' WHERE key = '{keys[0]}'")
    path = site.application.storage.local_path(keys[0])
    assert path is not None
    path.unlink()
    (path / "folder").mkdir(parents=True)
    with pytest.raises(StorageUnavailableError):
        keep(site)
    keep(site)
    assert site.world.rows("SELECT key FROM penstock.files") == [{"key": keys[0]}]


def test_old_ids_of_events_go(site: Site) -> None:
    """Wherever in the table they stand, and those that are young enough stay."""
    with site.world.database.connect(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO penstock.event_ids SELECT 'id ' || n, now() - n % 3 * interval '100 hours' - interval '1 hour' "
            "FROM generate_series(1, 60000) n"
        )
        assert Housekeeping(site.application, threading.Event()).forget_event_ids() == 20_000
        rest = connection.execute("SELECT count(*), max(now() - applied_at) < interval '168 hours' FROM penstock.event_ids").fetchone()
    assert rest == (40_000, True)


def test_ids_of_events_are_cleared_away_with_the_rest(site: Site) -> None:
    with site.world.database.connect(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO penstock.event_ids VALUES ('young', now() - interval '167 hours'), ('old', now() - interval '169 hours')"
        )
        keep(site)
        assert connection.execute("SELECT event_id FROM penstock.event_ids").fetchall() == [("young",)]
