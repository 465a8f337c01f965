"""One server for the tests of a module, and the services on its database to prepare jobs with."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from penstock.bootstrap import Application, application
from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, Job
from penstock.settings import load_settings
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import Served, serving

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def conninfo(postgres: TestServer) -> Iterator[str]:
    with postgres.fresh_database() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def environment(conninfo: str, folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": make_conninfo(conninfo), "PENSTOCK_DATA_DIR": str(folder / "data")}


@pytest.fixture(scope="module")
def served(environment: dict[str, str], folder: Path) -> Iterator[Served]:
    """Without a worker, so that jobs stay as the test makes them."""
    penstock = Penstock(folder)
    try:
        with serving(penstock, "--no-worker", env=environment) as found:
            yield found
    finally:
        penstock.end()


@pytest.fixture(scope="module")
def http(served: Served) -> httpx.Client:
    return served.http


@pytest.fixture(scope="module")
def here(served: Served, environment: dict[str, str]) -> Iterator[Application]:
    """The same services in this process."""
    with application(load_settings(environment, Path("/nonexistent"))) as found:
        yield found


@pytest.fixture(scope="module")
def make_job(here: Application, folder: Path) -> MakeJob:
    """A job of users from CSV lines; `run` carries it to its end."""
    numbers = iter(range(10_000))

    def make(*lines: str, run: bool = True, resource: str = "users", header: str = "email,name", request_id: str | None = None) -> Job:
        path = folder / f"{next(numbers)}.csv"
        path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
        job = here.imports.create(resource, str(path), read=ReadOptions(), options=ImportOptions(), request_id=request_id)
        return here.imports.run(job.job_id, progress=lambda _: None, cancel=threading.Event()) if run else job

    return make
