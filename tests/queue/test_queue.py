"""The queue alone: entries that live and die with their transaction, installation, outages."""

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from procrastinate import sql as procrastinate_sql

from penstock.database.connect import Database
from penstock.database.migrate import migrate
from penstock.jobs.model import JobId, JobType
from penstock.queue import Queue, service
from penstock.queue.consumer import Consumer, _ended
from tests.support.proxy import Proxy
from tests.support.waiting import until

ONE, OTHER = JobId("00000000-0000-4000-8000-000000000001"), JobId("00000000-0000-4000-8000-000000000002")
MISSING = (
    "SELECT count(*) FROM pg_proc WHERE pronamespace = 'penstock'::regnamespace AND proname LIKE 'procrastinate%' AND proconfig IS NULL"
)


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    found = Database(database, workers=4, connect_seconds=3)
    yield found
    found.close()


def entries(database: Database) -> list[dict[str, Any]]:
    with database.connect(autocommit=True) as connection:
        rows = connection.execute("SELECT args, status::text, scheduled_at > now() FROM penstock.procrastinate_jobs ORDER BY id")
        return [{"args": args, "status": status, "later": later} for args, status, later in rows]


def test_entry_lives_and_dies_with_its_transaction(opened: Database) -> None:
    """Invisible before the commit, gone after a rollback; the caller's search_path stays as it was."""
    queue = Queue(opened)
    with opened.connect() as connection:
        before = connection.execute("SHOW search_path").fetchone()
        queue.wake(connection, ONE, JobType.IMPORT)
        assert connection.execute("SHOW search_path").fetchone() == before
        assert entries(opened) == []
        connection.rollback()
        assert entries(opened) == []
        queue.wake_all(connection, [ONE, OTHER], JobType.IMPORT)
        queue.wake_all(connection, [], JobType.IMPORT)
        connection.commit()
    assert [entry["args"] for entry in entries(opened)] == [{"job_id": ONE, "version": 1}, {"job_id": OTHER, "version": 1}]


def test_library_still_calls_what_is_called_here() -> None:
    """The function that puts entries in is Procrastinate's own of this version."""
    assert "procrastinate_defer_jobs_v1(" in procrastinate_sql.queries["defer_jobs"]
    assert b"penstock.procrastinate_defer_jobs_v1(" in service.SQL["wake"]


def test_installed_once_by_many(empty_database: str) -> None:
    """Several processes start at once on an empty database: one installs, nobody fails; every migration of today is noted."""
    database = Database(empty_database)
    with database.connect(autocommit=True) as connection:
        migrate(connection)

    def install(_number: int) -> list[str]:
        with database.connect(autocommit=True) as connection:
            return Queue(database).install(connection)

    with ThreadPoolExecutor(4) as pool:
        applied = [names for names in pool.map(install, range(4)) if names]
    assert len(applied) == 1
    with database.connect(autocommit=True) as connection:
        noted = {name for (name,) in connection.execute("SELECT name FROM penstock.queue_migrations")}
        assert connection.execute(MISSING).fetchone() == (0,)
    assert noted == set(applied[0]) == {path.name for path in (service._folder() / "migrations").glob("*.sql")}


def test_newer_migration_is_applied(opened: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer Procrastinate brings is applied once, in the schema `penstock`, and its functions find their tables."""
    folder = tmp_path / "sql"
    shutil.copytree(service._folder(), folder)
    (folder / "migrations" / "99.00.00_01_more.sql").write_text(
        "CREATE TABLE procrastinate_more (a int); CREATE FUNCTION procrastinate_more_v1() RETURNS bigint LANGUAGE sql AS"
        " $$ SELECT count(*) FROM penstock.procrastinate_more $$;"
    )
    monkeypatch.setattr(service, "_folder", lambda: folder)
    with opened.connect(autocommit=True) as connection:
        assert Queue(opened).install(connection) == ["99.00.00_01_more.sql"]
        assert Queue(opened).install(connection) == []
        assert connection.execute("SELECT penstock.procrastinate_more_v1()").fetchone() == (0,)
        assert connection.execute(MISSING).fetchone() == (0,)


class Consuming:
    """A consumer on an event loop in a thread; `seen` has what was delivered."""

    def __init__(self, database: Database, *, slots: int = 2) -> None:
        self.seen: list[JobId] = []
        self._consumer = Consumer(database, self._handler(), slots=slots)
        self._loops: list[asyncio.AbstractEventLoop] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def _handler(self) -> Callable[[JobId], Awaitable[None]]:
        async def handle(job_id: JobId) -> None:
            await asyncio.sleep(0)
            self.seen.append(job_id)

        return handle

    async def _main(self) -> None:
        self._loops.append(asyncio.get_running_loop())
        await self._consumer.run()

    def __enter__(self) -> Self:
        self._thread.start()
        assert until(lambda: self._loops)
        return self

    def __exit__(self, *_: object) -> None:
        self._loops[0].call_soon_threadsafe(self._consumer.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()


def wake(database: Database, job_id: JobId) -> None:
    with database.connect() as connection:
        Queue(database).wake(connection, job_id, JobType.IMPORT)


def test_entries_of_other_versions_wait(opened: Database) -> None:
    """A payload or a task that only a newer version knows is put back for later, not failed, and holds nothing up."""
    with opened.connect(autocommit=True) as connection:
        for task, args in (("penstock.run", f'{{"job_id": "{ONE}", "version": {service.VERSION + 1}}}'), ("penstock.new", "{}")):
            statement = "INSERT INTO penstock.procrastinate_jobs (queue_name, task_name, args) VALUES ('penstock', %s, %s)"
            connection.execute(statement, [task, args])
    wake(opened, OTHER)
    with Consuming(opened, slots=1) as consuming:
        assert until(lambda: consuming.seen == [OTHER])
        assert until(lambda: len(entries(opened)) == 2)
    assert [(entry["status"], entry["later"]) for entry in entries(opened)] == [("todo", True)] * 2
    assert consuming.seen == [OTHER]


def test_outage_is_waited_out(database: str, proxied: Callable[[str], Proxy]) -> None:
    """Connections cut, new ones refused for a while: the consumer comes back by itself."""
    proxy = proxied(database)
    near, far = Database(database), Database(proxy.conninfo, connect_seconds=2)
    with Consuming(far) as consuming:
        wake(near, ONE)
        assert until(lambda: consuming.seen == [ONE])
        proxy.refuse()
        assert proxy.cut() > 0
        wake(near, OTHER)
        proxy.accept()
        assert until(lambda: consuming.seen == [ONE, OTHER])


def test_listener_that_died_is_replaced(opened: Database) -> None:
    """The backend that listens is terminated: entries are found all the same."""
    listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    with Consuming(opened) as consuming, opened.connect(autocommit=True) as connection:
        assert until(lambda: connection.execute(listening).fetchone())
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({listening}) l")
        wake(opened, ONE)
        assert until(lambda: consuming.seen == [ONE])
        assert until(lambda: connection.execute(listening).fetchone())


def test_entries_that_tell_nothing_are_removed(opened: Database) -> None:
    """Ended ones, and those of workers that are gone; what waits stays."""
    queue = Queue(opened)
    with opened.connect(autocommit=True) as connection:
        queue.wake_all(connection, [ONE] * 5, JobType.IMPORT)
        connection.execute("SET search_path = penstock")
        connection.execute("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = 1")
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 2")
        old, fresh = (connection.execute("SELECT procrastinate_register_worker_v1()").fetchone() for _ in range(2))
        assert old is not None
        assert fresh is not None
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = 3", old)
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = 4", fresh)
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = %s", old)
        assert queue.tidy(connection) == 3
        assert [row for (row,) in connection.execute("SELECT id FROM procrastinate_jobs ORDER BY id")] == [4, 5]


def test_a_cancellation_that_is_lost_is_given_again() -> None:
    """Psycopg raises the error of a dead connection in place of it, and what catches that goes on; who waits for it would wait for ever."""

    async def goes_on_once() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def end() -> bool:
        task = asyncio.create_task(goes_on_once())
        await asyncio.sleep(0)
        await asyncio.wait_for(_ended(task), 20)
        return task.cancelled()

    assert asyncio.run(end())
