"""The process `penstock serve`: how it starts, what it survives, how it stops."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from penstock.bootstrap import application
from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, Job
from penstock.settings import load_settings
from tests.support.commands import Penstock
from tests.support.proxy import Proxy
from tests.support.serving import free_port, serving
from tests.support.waiting import until


def _waiting_job(environment: dict[str, str], folder: Path, *, queued: bool = False) -> Job:
    (folder / "waiting.csv").write_text("email,name\nw@example.com,W\n")
    with application(load_settings(environment, Path("/nonexistent"))) as here:
        return here.imports.create("users", str(folder / "waiting.csv"), read=ReadOptions(), options=ImportOptions(), queued=queued)


def _waits_for_a_lock(database: str) -> bool:
    waiting = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"
    with psycopg.connect(database) as looking:
        return looking.execute(waiting).fetchone() is not None


def _count(database: str, table: str) -> int:
    with psycopg.connect(database) as looking:
        found = looking.execute(sql.SQL("SELECT count(*) FROM penstock.{}").format(sql.Identifier(table))).fetchone()
    return found[0] if found else 0


def _environment(database: str, folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": database, "PENSTOCK_DATA_DIR": str(folder / "data")}


def test_a_stop_ends_followers_and_finishes_requests(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """SIGTERM with an open stream of events: the stream ends whole, nobody is let in any more, exit status 0."""
    environment = _environment(database, tmp_path)
    job = _waiting_job(environment, tmp_path)
    with serving(run_penstock, "--no-worker", env=environment) as served:
        ended = threading.Event()
        seen: list[str] = []

        def follow() -> None:
            with httpx.stream("GET", f"{served.url}/v1/jobs/{job.job_id}/events", timeout=30, trust_env=False) as answer:
                seen.extend(answer.iter_lines())
            ended.set()

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        assert until(lambda: len(seen) > 1)
        served.process.send_signal(signal.SIGTERM)
        assert ended.wait(10)
        assert served.process.wait(10) == 0
        assert seen[0] == "event: job"
        assert served.logged("stopped")


def test_a_request_under_way_is_answered(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """A file that is half received when the stop comes is taken whole, and its job is there."""
    body = b"email,name\n" + b"".join(b"u%d@example.com,U\n" % number for number in range(20_000))
    head = "POST /v1/imports?resource=users&format=csv HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with serving(run_penstock, "--no-worker", env=_environment(database, tmp_path)) as served:
        with socket.create_connection(("127.0.0.1", httpx.URL(served.url).port or 0), timeout=20) as raw:
            raw.sendall(head.encode() + body[: len(body) // 2])
            assert until(lambda: _count(database, "files") == 1)
            served.process.send_signal(signal.SIGTERM)
            assert served.logged("stopping")
            raw.sendall(body[len(body) // 2 :])
            assert raw.recv(1000).startswith(b"HTTP/1.1 202")
        assert served.process.wait(10) == 0
    assert _count(database, "jobs") == 1


def test_a_job_under_way_is_left_to_the_next_server(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """SIGTERM while a job is stuck behind somebody's lock: the process ends in time, and another carries the job to its end."""
    environment = _environment(database, tmp_path) | {"IMPORT_JOB_LEASE_SECONDS": "2"}
    job = _waiting_job(environment, tmp_path, queued=True)
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE users IN EXCLUSIVE MODE")
        with serving(run_penstock, env=environment | {"SHUTDOWN_GRACE_SECONDS": "3"}) as served:
            assert until(lambda: served.http.get(f"/v1/jobs/{job.job_id}").json()["status"] == "PROCESSING")
            assert until(lambda: _waits_for_a_lock(database))
            assert served.stop(10) == 0
    with serving(run_penstock, env=environment) as served:
        assert until(lambda: served.http.get(f"/v1/jobs/{job.job_id}").json()["status"] == "COMPLETED")
        assert served.http.get(f"/v1/jobs/{job.job_id}").json()["imported_rows"] == 1


def test_what_hangs_is_cut_off_at_the_grace(run_penstock: Penstock, database: str, proxied: Callable[[str], Proxy], tmp_path: Path) -> None:
    """A request that waits for a database that does not answer holds the stop up for the grace and no longer."""
    proxy = proxied(database)
    with serving(run_penstock, "--no-worker", env=_environment(proxy.conninfo, tmp_path) | {"SHUTDOWN_GRACE_SECONDS": "1"}) as served:
        proxy.stall()
        with socket.create_connection(("127.0.0.1", httpx.URL(served.url).port or 0)) as raw:
            raw.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert until(lambda: served.http.get("/live").is_success)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(20) == 0
        assert served.logged("did not end in time and is cut off", what="server")
        proxy.resume()


def test_a_file_that_does_not_end_is_cut_off_at_the_grace(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """Whoever sends it is told to try again, and nothing is left of it."""
    head = "POST /v1/imports?resource=users HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n\r\n"
    with serving(run_penstock, "--no-worker", env=_environment(database, tmp_path) | {"SHUTDOWN_GRACE_SECONDS": "1"}) as served:
        with socket.create_connection(("127.0.0.1", httpx.URL(served.url).port or 0), timeout=20) as raw:
            raw.sendall(head.encode())
            assert until(lambda: _count(database, "files") == 1)
            served.process.send_signal(signal.SIGTERM)
            assert raw.recv(1000).startswith(b"HTTP/1.1 503")
        assert served.process.wait(20) == 0
    assert _count(database, "files") == 0
    assert not list((tmp_path / "data" / "storage" / ".partial").iterdir())


def test_a_second_signal_ends_at_once(run_penstock: Penstock, database: str, proxied: Callable[[str], Proxy], tmp_path: Path) -> None:
    """Whatever is under way."""
    proxy = proxied(database)
    with serving(run_penstock, "--no-worker", env=_environment(proxy.conninfo, tmp_path) | {"SHUTDOWN_GRACE_SECONDS": "60"}) as served:
        proxy.stall()
        with socket.create_connection(("127.0.0.1", httpx.URL(served.url).port or 0)) as raw:
            raw.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert until(lambda: served.http.get("/live").is_success)
            served.process.send_signal(signal.SIGTERM)
            assert served.logged("stopping")
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(10) == 130
        proxy.resume()


def test_an_outage_of_the_database_is_told(run_penstock: Penstock, database: str, proxied: Callable[[str], Proxy], tmp_path: Path) -> None:
    """503 with Retry-After and nothing of what lies inside; alive all the while, and back with the database."""
    proxy = proxied(database)
    with serving(run_penstock, "--no-worker", env=_environment(proxy.conninfo, tmp_path) | {"CONNECTION_TIMEOUT": "1"}) as served:
        assert served.http.get("/v1/jobs").is_success
        proxy.refuse()
        proxy.cut()
        answer = served.http.get("/v1/jobs")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert not {"127.0.0.1", str(proxy.port), "PostgreSQL", "database postgres"} & set(answer.text.split())
        assert answer.json()["error"]["details"] == {}
        assert until(lambda: served.http.get("/health").status_code == 503)
        assert served.http.get("/health").json()["checks"]["database"]["status"] == "failed"
        assert served.http.get("/ready").status_code == 503
        assert served.http.get("/live").is_success
        proxy.accept()
        assert until(lambda: served.http.get("/v1/jobs").is_success)
        assert until(lambda: served.http.get("/ready").is_success)


def test_the_embedded_server_is_brought_up_again(run_penstock: Penstock, data_dir: Path) -> None:
    """Killed under a server that goes on, it is started again, and said so in the log."""
    with serving(run_penstock, "--no-worker", env={"PENSTOCK_DATA_DIR": str(data_dir)}) as served:
        assert served.http.get("/v1/jobs").is_success
        pid = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        assert served.logged("the embedded PostgreSQL runs again")
        assert until(lambda: served.http.get("/v1/jobs").is_success)
        assert served.stop() == 0
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


def test_a_port_in_use_is_told(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """Exit status 1 and what to do; two servers never share a port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_penstock("serve", "--port", port, "--no-worker", env=_environment(database, tmp_path))
    assert ended.returncode == 1
    assert f"Cannot listen at 127.0.0.1, port {port}" in ended.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_are_not_let_in_without_sign_in(run_penstock: Penstock, host: str) -> None:
    """An address that other machines reach is refused, with the reason, before anything is started."""
    ended = run_penstock("serve", "--host", host, "--port", str(free_port()))
    assert ended.returncode == 2
    assert "no sign-in is configured" in ended.stderr


def test_a_resource_may_not_take_an_address_of_the_api(run_penstock: Penstock, database: str, tmp_path: Path) -> None:
    """It would be unreachable, or hide the API's own."""
    fields = "[{name: id, type: string, format: uuid}, {name: note, type: string}]"
    (tmp_path / "jobs.yaml").write_text(f"name: jobs\nschema: {{primaryKey: id, fields: {fields}}}\n", encoding="utf-8")
    environment = _environment(database, tmp_path) | {"PENSTOCK_RESOURCES": str(tmp_path / "jobs.yaml")}
    ended = run_penstock("serve", "--port", str(free_port()), "--no-worker", env=environment)
    assert (ended.returncode, "no resource may have them: jobs" in ended.stderr) == (2, True)
