"""A server and workers that have only a database and a bucket in common."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx

from tests.imports.world import World
from tests.service.test_fleet import Log
from tests.support.commands import Penstock
from tests.support.serving import Served, serving
from tests.support.waiting import until


@dataclass
class Working:
    process: Popen[str]
    log: Log


class Fleet:
    """A server without a worker, and workers; each has a data folder of its own, and only the bucket is common."""

    def __init__(self, world: World, folder: Path, penstock: Penstock, bucket: dict[str, str]) -> None:
        self.world = world
        self.folder = folder
        self._penstock = penstock
        self._common = {
            **bucket,
            "DATABASE_URL": world.conninfo,
            "PENSTOCK_RESOURCES": str(world.folder),
            "IMPORT_CHUNK_SIZE": "8192",
            "IMPORT_JOB_LEASE_SECONDS": "2",
            "UPLOAD_IDLE_SECONDS": "1",
            "FILE_URL_ALLOWED_NETWORKS": "127.0.0.0/8",
            "LOG_FORMAT": "json",
        }

    def environment(self, name: str, **more: str) -> dict[str, str]:
        return {**self._common, "PENSTOCK_DATA_DIR": str(self.folder / name), **more}

    def serving(self, *options: str) -> AbstractContextManager[Served]:
        return serving(self._penstock, *options, env=self.environment("server"))

    @contextmanager
    def working(self, name: str = "worker", **more: str) -> Iterator[Working]:
        process = self._penstock.start("worker", env=self.environment(name, **more))
        log = Log(process)
        try:
            assert until(lambda: log.says("worker started") or process.poll() is not None)
            yield Working(process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
            log.close()

    def job(self, job_id: str) -> dict[str, Any]:
        return self.world.rows(f"SELECT * FROM penstock.jobs WHERE job_id = '{job_id}'")[0]

    def ended(self, job_id: str, seconds: float = 30) -> dict[str, Any]:
        assert until(lambda: self.job(job_id)["finished_at"], seconds), (self.job(job_id), self.attempts(job_id))
        return self.job(job_id)

    def attempts(self, job_id: str) -> list[str | None]:
        rows = self.world.rows(f"SELECT outcome FROM penstock.attempts WHERE job_id = '{job_id}' ORDER BY epoch")
        return [row["outcome"] for row in rows]

    def files(self) -> list[str]:
        return sorted(row["key"] for row in self.world.rows("SELECT key FROM penstock.files"))


def made(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def send(http: httpx.Client, body: bytes, name: str = "things.ndjson") -> str:
    return made(http.post("/v1/imports", data={"resource": "things"}, files={"file": (name, body)}))
