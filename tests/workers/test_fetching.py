"""Jobs whose file is fetched from a URL by the attempt that imports it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from penstock.crashpoints import CrashPoint
from penstock.formats.model import ReadOptions
from penstock.imports import bringing
from penstock.jobs.model import ImportOptions, Job, JobStatus
from penstock.sources.places import RemoteUrl
from tests.imports.checker import check, thing
from tests.imports.world import ignore
from tests.support.commands import Penstock
from tests.support.proxy import Loss, Proxy
from tests.support.waiting import until
from tests.workers.site import COUNT, Site

ALLOWED = {"FILE_URL_ALLOWED_NETWORKS": "127.0.0.0/8"}


class Server:
    """Gives `body`; with `held` set it sends the half and waits until `go`."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked = 0
        self.held = False
        self.go = threading.Event()
        self.half = threading.Event()
        self.url = ""


@contextmanager
def serving(body: bytes) -> Iterator[Server]:
    state = Server(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            if not self.path.startswith("/things"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            half = len(state.body) // 2
            self.wfile.write(state.body[:half])
            if state.held:
                state.half.set()
                state.go.wait(30)
            try:
                self.wfile.write(state.body[half:])
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/things.ndjson"
        try:
            yield state
        finally:
            state.go.set()
            server.shutdown()
            thread.join(10)


@pytest.fixture
def server(durable_site: Site) -> Iterator[Server]:
    with serving(durable_site.file(thing(n) for n in range(1, COUNT + 1)).read_bytes()) as found:
        yield found


def job_of(site: Site, url: str) -> Job:
    place = RemoteUrl(url=url, name="things.ndjson")
    job = site.application.imports.create("things", place, read=ReadOptions(), options=ImportOptions(), queued=True)
    assert (job.total_bytes, job.status) == (0, JobStatus.PENDING)
    return job


def test_fetched_and_imported(durable_site: Site, server: Server) -> None:
    """The job's place becomes the object, with its size; the same bytes a second time are told of."""
    job, second = job_of(durable_site, server.url), None
    with durable_site.working(durable_site.applied(**ALLOWED)):
        done = durable_site.finished(job.job_id)
        check(durable_site.world, job.job_id, COUNT)
        second = durable_site.finished(job_of(durable_site, server.url).job_id)
    assert done.total_bytes == len(server.body)
    assert done.warnings == []
    assert any(str(job.job_id) in warning for warning in second.warnings)
    rows = durable_site.world.rows(f"SELECT key, size FROM penstock.files WHERE job_id = '{job.job_id}' AND kind = 'SOURCE'")
    assert [row["size"] for row in rows] == [len(server.body)]


@pytest.mark.parametrize(("path", "allowed", "code"), [("/nothing", ALLOWED, "download_failed"), ("/things.ndjson", {}, "forbidden_url")])
def test_not_to_be_had(durable_site: Site, server: Server, path: str, allowed: dict[str, str], code: str) -> None:
    """The job fails with the reason."""
    job = job_of(durable_site, server.url.replace("/things.ndjson", path))
    with durable_site.working(durable_site.applied(**allowed)):
        failed = durable_site.finished(job.job_id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (JobStatus.FAILED, code)


def test_killed_after_fetching(durable_site: Site, server: Server, run_penstock: Penstock) -> None:
    """The object that nobody knows of is in the files' table, with a time; the next attempt fetches anew."""
    job = job_of(durable_site, server.url)
    worker = run_penstock.start("worker", env={**durable_site.environment, **ALLOWED, "CRASH_AT": "source-fetched"})
    assert worker.wait(30) == -signal.SIGKILL
    with durable_site.working(durable_site.applied(**ALLOWED)):
        durable_site.finished(job.job_id)
    check(durable_site.world, job.job_id, COUNT)
    assert server.asked == 2
    rows = durable_site.world.rows("SELECT expires_at < now() + interval '8 days' AS due FROM penstock.files WHERE kind = 'SOURCE'")
    assert [row["due"] for row in rows] == [True, True]


def test_stopped_while_fetching(durable_site: Site, server: Server) -> None:
    """A worker that stops does not wait for the rest of the file; the job is handed over, and the next one fetches it whole."""
    server.held = True
    job = job_of(durable_site, server.url)
    with durable_site.working(durable_site.applied(**ALLOWED)):
        assert server.half.wait(20)
    assert durable_site.attempts(job.job_id) == ["handed over"]
    server.held = False
    with durable_site.working(durable_site.applied(**ALLOWED)):
        durable_site.finished(job.job_id)
    check(durable_site.world, job.job_id, COUNT)


def test_cancelled_while_fetching(durable_site: Site, server: Server) -> None:
    """The wish comes with the heartbeat, and the fetch ends."""
    server.held = True
    job = job_of(durable_site, server.url)
    with durable_site.working(durable_site.applied(**ALLOWED)):
        assert server.half.wait(20)
        durable_site.application.imports.cancel(job.job_id)
        assert until(lambda: durable_site.get(job.job_id).status is JobStatus.CANCELLED)


@pytest.mark.parametrize("settled", [False, True])
def test_database_lost_while_fetching(
    durable_database: str, tmp_path: Path, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch, *, settled: bool
) -> None:
    """The attempt goes on when the database is back. What was settled although the reply was lost is not fetched a second time."""
    proxy = proxied(durable_database)

    def lose(point: CrashPoint) -> None:
        if point is CrashPoint.SOURCE_FETCHED and not proxy.lost.is_set():
            proxy.lose_commit(Loss.REPLY if settled else Loss.REQUEST)

    with closing(Site(proxy.conninfo, tmp_path)) as site, serving(site.file(thing(n) for n in range(1, COUNT + 1)).read_bytes()) as found:
        monkeypatch.setattr(bringing, "reach", lose)
        job = job_of(site, found.url)
        site.applied(**ALLOWED).imports.run(job.job_id, progress=ignore, cancel=threading.Event())
        check(site.world, job.job_id, COUNT)
        assert proxy.lost.is_set()
        assert (found.asked, len(site.attempts(job.job_id))) == (1 if settled else 2, 1)
