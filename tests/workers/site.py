"""A database, a data folder, resources; workers on them, as processes or in this one."""

import asyncio
import copy
import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.bootstrap import Application
from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, Job, JobId
from penstock.settings import Settings, load_settings
from penstock.workers import Worker
from tests.imports.checker import thing
from tests.imports.world import World
from tests.support.waiting import until

COUNT = 1200


class Site:
    """`application` has the same settings as the processes that get `environment`."""

    def __init__(self, conninfo: str, folder: Path) -> None:
        (folder / "resources").mkdir()
        self.folder = folder
        self._numbers = itertools.count(1)
        self.world = World(conninfo, folder / "resources")
        self.environment = {
            "DATABASE_URL": conninfo,
            "PENSTOCK_DATA_DIR": str(folder / "data"),
            "PENSTOCK_RESOURCES": str(folder / "resources"),
            "IMPORT_CHUNK_SIZE": "8192",  # a wave is six chunks: three waves
            "IMPORT_WORKERS": "6",
            "IMPORT_JOB_LEASE_SECONDS": "2",
            "JOB_CONCURRENCY": "2",
            "SHUTDOWN_GRACE_SECONDS": "8",
        }
        self.application = self.applied()

    def settings(self, **more: str) -> Settings:
        return load_settings({**self.environment, **more}, Path("/nonexistent"))

    def applied(self, **more: str) -> Application:
        return Application(self.settings(**more), self.world.registry, self.world.database)

    def close(self) -> None:
        self.world.close()

    def file(self, records: Iterable[dict[str, Any]], name: str = "things.ndjson") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    def job(self, count: int = COUNT, options: ImportOptions | None = None, *, queued: bool = True, good_only: bool = False) -> Job:
        """A job for a file of things, of which every 20th is bad."""
        records = (thing(n) for n in range(1, count + 1))
        path = self.file((r for r in records if not good_only or len(str(r["title"])) < 10), f"things-{next(self._numbers)}.ndjson")
        return self.application.imports.create("things", str(path), read=ReadOptions(), options=options or ImportOptions(), queued=queued)

    def get(self, job_id: JobId) -> Job:
        return self.application.imports.get(job_id)

    def finished(self, job_id: JobId, seconds: float = 30) -> Job:
        """The job once it has ended, bounded."""
        assert until(lambda: self.get(job_id).status.finished, seconds), self.story(job_id)
        return self.get(job_id)

    def story(self, job_id: JobId) -> object:
        return (
            self.get(job_id),
            self.world.rows(f"SELECT * FROM penstock.attempts WHERE job_id = '{job_id}' ORDER BY epoch"),
            self.world.rows("SELECT * FROM penstock.procrastinate_jobs"),
        )

    def attempts(self, job_id: JobId) -> list[str | None]:
        rows = self.world.rows(f"SELECT outcome FROM penstock.attempts WHERE job_id = '{job_id}' ORDER BY epoch")
        return [row["outcome"] for row in rows]

    def entries(self) -> list[str]:
        return [row["status"] for row in self.world.rows("SELECT status::text FROM penstock.procrastinate_jobs ORDER BY id")]

    @contextmanager
    def working(self, application: Application | None = None) -> Iterator[Worker]:
        """A worker in this process, on an event loop of its own; stopped at the end, which must not take longer than its grace."""
        application = copy.copy(application or self.application)
        application.__dict__.pop("events", None)  # each event loop has its own, and closes it
        worker = Worker(application)
        ready: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        broken: list[BaseException] = []

        async def main() -> None:
            stop = asyncio.Event()
            ready.append((asyncio.get_running_loop(), stop))
            try:
                await worker.run(stop)
            finally:
                await application.events.close()

        def work() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:  # noqa: BLE001 - raised by the test
                broken.append(error)

        thread = threading.Thread(target=work, name="test-worker")
        thread.start()
        assert until(lambda: ready or broken)
        try:
            yield worker
        finally:
            if ready:
                loop, stop = ready[0]
                loop.call_soon_threadsafe(stop.set)
            thread.join(20)
            assert not thread.is_alive()
        if broken:
            raise broken[0]
