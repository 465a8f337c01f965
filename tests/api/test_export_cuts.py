"""Streams that do not come to their end: broken off, left, stalled, stopped. Nobody takes such a file for whole; nothing is left behind."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from penstock.bootstrap import Application
from tests.support.commands import Penstock
from tests.support.proxy import Proxy
from tests.support.serving import Served, serving
from tests.support.waiting import until

ARTICLES = 30_000  # of 2 KB: far more than all buffers on the way hold
PATH = "/v1/exports?resource=articles&format=csv"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_READING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%%\"Row\"%%'"
_CURL_CUT, _CURL_SLOW = 18, "4M"


@pytest.fixture(scope="module", autouse=True)
def articles(here: Application) -> None:
    with here.database.connection() as connection:
        connection.execute("INSERT INTO users (email, name) VALUES ('author@example.com', 'Author')")
        connection.execute(
            "INSERT INTO articles (slug, title, body, author_id) SELECT 'a-' || n, 'T', repeat('x', 1900), users.id "
            "FROM generate_series(1, %s) AS n, users",
            [ARTICLES],
        )


@pytest.fixture
def looking(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as found:
        yield found


@contextmanager
def _asked(url: str, path: str = PATH, *, version: str = "1.1", request_id: str = "cut") -> Iterator[socket.socket]:
    """A client that has asked and takes nothing yet, with a buffer as small as may be."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", httpx.URL(url).port or 0))
        client.sendall(f"GET {path} HTTP/{version}\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n".encode())
        yield client


def _rest(client: socket.socket) -> bytes:
    taken = bytearray()
    while block := client.recv(1 << 16):
        taken += block
    return bytes(taken)


def _readers(looking: psycopg.Connection[Any]) -> list[int]:
    """The backends that read for an export."""
    return [pid for (pid,) in looking.execute(_READING)]


def test_a_stream_that_breaks_off_lacks_its_end(served: Served, looking: psycopg.Connection[Any]) -> None:
    """PostgreSQL ends the session in the middle: 200 is out already, so the last chunk does not come; the log tells why."""
    with _asked(served.url, request_id="broken") as client:
        head = client.recv(1000)
        assert until(lambda: _readers(looking))
        looking.execute(f"SELECT pg_terminate_backend(pid) FROM ({_READING}) AS readers")
        taken = head + _rest(client)
    assert taken.startswith(b"HTTP/1.1 200")
    assert not taken.endswith(_LAST_CHUNK)
    assert served.logged("the answer broke off", code="database_unavailable", request_id="broken")
    assert served.logged("export streamed", how="broken off", request_id="broken")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sees_that_a_stream_broke_off(served: Served, looking: psycopg.Connection[Any], tmp_path: Path) -> None:
    """It ends with the status for a partial file."""
    file = tmp_path / "articles.csv"
    command = ["curl", "--silent", "--no-buffer", "--limit-rate", _CURL_SLOW, "--output", str(file), served.url + PATH]
    with subprocess.Popen(command) as curl:
        assert until(lambda: file.exists() and file.stat().st_size)
        looking.execute(f"SELECT pg_terminate_backend(pid) FROM ({_READING}) AS readers")
        assert curl.wait(60) == _CURL_CUT


def test_whole_streams_have_their_end(served: Served) -> None:
    """The other side of the same coin."""
    with _asked(served.url, PATH + "&slug=a-1", request_id="whole") as client:
        taken = b""
        while not taken.endswith(_LAST_CHUNK):
            block = client.recv(1000)
            assert block, taken
            taken += block
    assert served.logged("export streamed", how="whole", rows=1, request_id="whole")


def test_http_1_0_is_refused(served: Served) -> None:
    """There the end of the connection is the end of the file, whatever ended it."""
    with _asked(served.url, version="1.0") as client:
        taken = _rest(client)
    assert taken.split(b"\r\n")[0].endswith(b" 505 HTTP Version Not Supported")
    assert b"http_version_not_supported" in taken


def test_a_client_that_leaves_ends_its_export(served: Served, looking: psycopg.Connection[Any]) -> None:
    """In the middle of the records."""
    with _asked(served.url, request_id="left") as client:
        client.recv(1000)
        assert until(lambda: _readers(looking))
    assert until(lambda: not _readers(looking), 5)
    assert served.logged("export streamed", how="left by its client", request_id="left")


def test_a_client_that_leaves_before_the_first_record_ends_its_export(
    served: Served, conninfo: str, looking: psycopg.Connection[Any]
) -> None:
    """While PostgreSQL is busy and gives nothing: here it waits for a lock."""
    with psycopg.connect(conninfo) as other:
        other.execute("LOCK TABLE articles IN ACCESS EXCLUSIVE MODE")
        with _asked(served.url, request_id="waiting"):
            assert until(lambda: looking.execute(_READING + " AND wait_event_type = 'Lock'").fetchone())
        assert until(lambda: not _readers(looking), 5)
    assert served.logged("request", request_id="waiting", status=499)


@pytest.mark.parametrize(
    ("setting", "code"), [("EXPORT_IDLE_SECONDS", "client_stalled"), ("EXPORT_TOTAL_SECONDS", "export_timeout")], ids=["idle", "total"]
)
def test_a_client_that_takes_nothing_is_cut_off(
    run_penstock: Penstock, environment: dict[str, str], looking: psycopg.Connection[Any], setting: str, code: str
) -> None:
    """Its snapshot is not held for ever; others are served meanwhile; the log tells why."""
    with (
        serving(run_penstock, "--no-worker", env=environment | {setting: "1"}) as served,
        _asked(served.url, request_id="stalled") as client,
    ):
        assert until(lambda: _readers(looking))
        assert served.http.get("/v1/exports?resource=users").is_success
        assert served.logged("the answer broke off", code=code, request_id="stalled")
        assert until(lambda: not _readers(looking), 5)
        assert not _rest(client).endswith(_LAST_CHUNK)


def test_a_stop_cuts_streams_after_the_grace(run_penstock: Penstock, environment: dict[str, str], looking: psycopg.Connection[Any]) -> None:
    """The process ends in time with status 0, and the client sees that its file is not whole."""
    environment = environment | {"SHUTDOWN_GRACE_SECONDS": "1"}
    with serving(run_penstock, "--no-worker", env=environment) as served, _asked(served.url, request_id="stopped") as client:
        assert until(lambda: _readers(looking))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
        assert until(lambda: not _readers(looking), 5)
        assert not _rest(client).endswith(_LAST_CHUNK)
        assert served.logged("export streamed", how="cut off", request_id="stopped")


def test_a_stop_lets_streams_end(run_penstock: Penstock, environment: dict[str, str], looking: psycopg.Connection[Any]) -> None:
    """A client that takes what it is given within the grace has it whole."""
    with serving(run_penstock, "--no-worker", env=environment | {"SHUTDOWN_GRACE_SECONDS": "30"}) as served:
        with _asked(served.url) as client:
            assert until(lambda: _readers(looking))
            served.process.send_signal(signal.SIGTERM)
            assert served.logged("stopping")
            assert _rest(client).endswith(_LAST_CHUNK)
        assert served.process.wait(20) == 0


def test_as_many_streams_as_may_be(run_penstock: Penstock, environment: dict[str, str], looking: psycopg.Connection[Any]) -> None:
    """One more waits a moment for its turn and is then told to try again; whatever is no export is answered all the while."""
    with serving(run_penstock, "--no-worker", env=environment | {"IMPORT_WORKERS": "2"}) as served, _asked(served.url):
        assert until(lambda: _readers(looking))
        answer = served.http.get(PATH)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
        assert served.http.get("/v1/jobs").is_success


def test_an_outage_is_told_before_anything_is_sent(run_penstock: Penstock, conninfo: str, environment: dict[str, str]) -> None:
    """503 with Retry-After, and nothing of what lies inside."""
    with Proxy(conninfo) as proxy:
        through = environment | {"DATABASE_URL": proxy.conninfo, "CONNECTION_TIMEOUT": "1"}
        with serving(run_penstock, "--no-worker", env=through) as served:
            assert served.http.get(PATH + "&slug=a-1").is_success
            proxy.refuse()
            proxy.cut()
            answer = served.http.get(PATH)
            proxy.accept()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(proxy.port) not in answer.text
            assert until(lambda: served.http.get(PATH + "&slug=a-1").is_success)
