"""What every test may ask for: a real PostgreSQL, a fresh database on it, the command line, a proxy that breaks connections.

`PENSTOCK_TEST_DATABASE_URL` names a server to use instead of the embedded one; its role must be allowed to make databases. Whatever way the
run ends, also by SIGKILL, its servers and files are cleared away: tests/support/watchdog.py.
"""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from penstock.database.embedded import EmbeddedPostgres
from penstock.logs import configure_logs
from tests.support import watchdog
from tests.support.commands import Penstock
from tests.support.postgres import RUN_FOLDER, RUN_ID, TestServer, drop_databases_of_run, running_server
from tests.support.proxy import Proxy

_WATCHDOG = pytest.StashKey[subprocess.Popen[bytes]]()
_WATCHDOG_SECONDS = 30


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    configure_logs()
    if _is_worker(config):
        return  # the process that started it has done this, and hands its environment down
    os.environ[RUN_ID] = uuid.uuid4().hex[:10]
    os.environ[RUN_FOLDER] = tempfile.mkdtemp(prefix="penstock-test-")
    command = [sys.executable, "-S", "-E", watchdog.__file__, os.environ[RUN_FOLDER]]
    config.stash[_WATCHDOG] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    try:
        drop_databases_of_run()
    finally:
        dog = config.stash[_WATCHDOG]
        assert dog.stdin is not None
        dog.communicate(watchdog.ENDED, timeout=_WATCHDOG_SECONDS)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes after their argument: what packs them may write the time into them, and every process must collect the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestServer]:
    """The server of the run, without waits for the disk."""
    with running_server("fast") as server:
        yield server


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[TestServer]:
    """A server that waits for the disk, as in production: for tests that crash things."""
    with running_server("durable") as server:
        yield server


@pytest.fixture
def database(postgres: TestServer) -> Iterator[str]:
    """A fresh database with the migrations applied, as a connection string; the test must close its connections."""
    with postgres.fresh_database() as conninfo:
        yield conninfo


@pytest.fixture
def durable_database(durable_postgres: TestServer) -> Iterator[str]:
    with durable_postgres.fresh_database() as conninfo:
        yield conninfo


@pytest.fixture
def empty_database(postgres: TestServer) -> Iterator[str]:
    """A database with nothing in it."""
    with postgres.empty_database() as conninfo:
        yield conninfo


@pytest.fixture
def proxied() -> Iterator[Callable[[str], Proxy]]:
    """Puts a proxy before a connection string's server."""
    with ExitStack() as stack:
        yield lambda conninfo: stack.enter_context(Proxy(conninfo))


@pytest.fixture
def run_penstock(tmp_path: Path) -> Iterator[Penstock]:
    """Runs the command line: `run_penstock("import", "users", file, env={...})`."""
    penstock = Penstock(tmp_path)
    yield penstock
    penstock.end()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder for an embedded server of the test's own, which is ended and removed whatever the test did to it."""
    with tempfile.TemporaryDirectory(prefix="data-", dir=os.environ[RUN_FOLDER]) as folder:
        path = Path(folder) / "penstock-data"
        yield path
        if (path / "postgres").exists():
            EmbeddedPostgres(path).start().stop()
