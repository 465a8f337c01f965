"""Exports through the client: streams that are whole or an error, queued ones whose file is held against its job."""

import hashlib
import io
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.client import Server
from penstock.errors import (
    ExportExpiredError,
    InvalidFilterError,
    InvalidOptionError,
    InvalidStateError,
    JobNotFoundError,
    OverloadedError,
    ServerRefusedError,
    ServerUnreachableError,
    UnknownResourceError,
)
from penstock.formats.model import Compression, Format
from penstock.jobs.model import JobId, JobStatus, JobType
from tests.client.conftest import JOB, Handler, Scripted, ScriptedServer, good, refusing, streaming
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import Served, serving

CONTENT = b"email\nann@example.com\n"


def export_json(**changes: Any) -> bytes:
    """As the API shows a completed export."""
    facts: dict[str, Any] = {
        "job_id": JOB.job_id,
        "type": "EXPORT",
        "resource": "users",
        "status": "COMPLETED",
        "format": "csv",
        "fields": ["email"],
        "filters": {"role": "admin"},
        "compression": "none",
        "spreadsheet": False,
        "processed_rows": 1,
        "total_rows": 1,
        "progress": 1.0,
        "file_name": "users.csv",
        "size_bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "expires_at": "2024-05-02T12:00:00Z",
        "download_url": "http://elsewhere/x",
        "created_at": "2024-05-01T12:00:00Z",
        "links": {"self": "http://here/"},
        "colour": "red",
    }
    return msgspec.json.encode(facts | changes)


def test_a_stream_asks_for_what_is_wanted(scripted: Scripted) -> None:
    """In the words of the API, uncompressed on this machine; the bytes as they come."""
    scripted.answers(streaming(CONTENT[:6], CONTENT[6:], whole=True))
    filters = {"role": "admin", "created_at[gte]": "2024-01-01T00:00:00Z"}
    with scripted.client.export("users", format=Format.CSV, fields=["email", "name"], filters=filters, spreadsheet=True) as pieces:
        assert b"".join(pieces) == CONTENT
    [(_, path, headers)] = scripted.server.seen
    assert path == (
        "/v1/exports?resource=users&format=csv&role=admin&created_at%5Bgte%5D=2024-01-01T00%3A00%3A00Z&fields=email%2Cname&spreadsheet=true"
    )
    assert headers["Accept-Encoding"] == "identity"


def test_a_stream_that_breaks_off_is_an_error(scripted: Scripted) -> None:
    """After what came."""
    scripted.answers(streaming(CONTENT))
    with scripted.client.export("users") as pieces, pytest.raises(ServerUnreachableError, match="broke off"):
        b"".join(pieces)


def test_a_stream_whose_end_cannot_be_told_is_refused(scripted: Scripted) -> None:
    """HTTP/1.0 without a length: a cut one would look whole."""

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)
        handler.close_connection = True

    scripted.answers(endless)
    with pytest.raises(ServerRefusedError, match="speaks HTTP"), scripted.client.export("users"):
        pass


def test_a_server_that_is_full_is_asked_again(scripted: Scripted) -> None:
    """Nothing has come yet, so it does no harm."""
    scripted.answers(refusing(OverloadedError("full"), Retry_After="0"), streaming(CONTENT, whole=True))
    with scripted.client.export("users") as pieces:
        assert b"".join(pieces) == CONTENT
    assert len(scripted.asked) == 2


def test_a_filter_cannot_pass_for_an_option(scripted: Scripted) -> None:
    """Which would change what the caller asked for, without a word."""
    for name in ("resource", "format", "fields", "spreadsheet"):
        with pytest.raises(InvalidFilterError), scripted.client.export("users", filters=[(name, "x")]):
            pass
    assert scripted.asked == []


@pytest.mark.parametrize("value", [{"gte": "2024-01-01T00:00:00Z"}, ["a", "b"], None])
def test_a_filter_that_only_a_queued_export_may_have_is_refused(scripted: Scripted, value: Any) -> None:
    """A stream would be asked for the text of a dict, which no record has."""
    with pytest.raises(InvalidFilterError, match="text or a number"), scripted.client.export("users", filters={"name": value}):
        pass
    assert scripted.asked == []


def test_an_export_is_a_job(scripted: Scripted) -> None:
    """With its order and its file; members that are not known do no harm, nor do those that are absent."""
    scripted.answers(good(export_json()))
    job = scripted.client.get(JOB.job_id)
    assert (job.type, job.mode, job.source_name, job.processed_rows) == (JobType.EXPORT, None, "users.csv", 1)
    assert job.export is not None
    assert (job.export.fields, job.export.filters, job.export.compression) == (["email"], {"role": "admin"}, "none")
    assert job.file is not None
    assert (job.file.size, job.file.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    least = {"job_id": JOB.job_id, "type": "EXPORT", "resource": "users", "status": "PENDING", "created_at": "2024-05-01T12:00:00Z"}
    scripted.answers(good(msgspec.json.encode(least)))
    job = scripted.client.get(JOB.job_id)
    assert (job.status, job.file, job.updated_at) == (JobStatus.PENDING, None, job.created_at)


def _redirecting(location: str, *, status: int = 307) -> Any:
    return lambda handler: handler.send(status, b"", Location=location)


@pytest.mark.parametrize("came", [CONTENT[:-1], CONTENT + b"x", CONTENT.upper(), b""])
def test_a_download_that_is_not_the_file_is_refused(scripted: Scripted, tmp_path: Path, came: bytes) -> None:
    """By size or by digest; the file of before stays, and nothing lies beside it."""
    (tmp_path / "u.csv").write_text("old")
    scripted.answers(good(export_json()), _redirecting("/file"), good(came))
    with pytest.raises(ServerUnreachableError, match="SHA-256"):
        scripted.client.download(JOB.job_id, tmp_path / "u.csv")
    assert (tmp_path / "u.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_download_replaces_files_only(scripted: Scripted, tmp_path: Path) -> None:
    """A pipe is written as it is, a link stays a link, and a folder is told as one."""
    pipe, link, old = tmp_path / "pipe", tmp_path / "link", tmp_path / "old"
    os.mkfifo(pipe)
    old.write_text("old")
    link.symlink_to("old")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for target in (pipe, link):
            scripted.answers(good(export_json()), _redirecting("/file"), good(CONTENT))
            scripted.client.download(JOB.job_id, target)
        assert os.read(reader, len(CONTENT) + 1) == CONTENT
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert (link.is_symlink(), old.read_bytes()) == (True, CONTENT)
    scripted.answers(good(export_json()), _redirecting("/file"), good(CONTENT))
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        scripted.client.download(JOB.job_id, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old", "pipe"]


def test_a_download_from_elsewhere_takes_no_headers_along(tmp_path: Path) -> None:
    """A bucket has no business with what the server is told."""
    with ScriptedServer() as here, ScriptedServer() as bucket:
        threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in (here, bucket)]
        for thread in threads:
            thread.start()
        here.script = [good(export_json()), _redirecting(f"http://127.0.0.1:{bucket.server_address[1]}/object?sig=1")]
        bucket.script = [good(CONTENT)]
        with Server(f"http://127.0.0.1:{here.server_address[1]}", headers={"X-API-Key": "secret"}) as client:
            client.download(JOB.job_id, str(tmp_path / "u.csv"))
        for server in (here, bucket):
            server.shutdown()
        for thread in threads:
            thread.join()
    assert (tmp_path / "u.csv").read_bytes() == CONTENT
    assert all(headers["X-API-Key"] == "secret" for _, _, headers in here.seen)
    [(_, path, headers)] = bucket.seen
    assert path == "/object?sig=1"
    assert "secret" not in headers.values()


def test_a_download_that_leads_nowhere_is_refused(scripted: Scripted) -> None:
    """A redirection to what is no HTTP, and one to yet another place."""
    scripted.answers(good(export_json()), _redirecting("file:///etc/passwd"))
    with pytest.raises(ServerRefusedError, match="no link"):
        scripted.client.download(JOB.job_id, io.BytesIO())
    scripted.answers(good(export_json()), _redirecting("/file"), _redirecting("/another"))
    with pytest.raises(ServerRefusedError, match="redirects"):
        scripted.client.download(JOB.job_id, io.BytesIO())


def test_a_file_that_is_gone_is_told(scripted: Scripted) -> None:
    """By its own class."""
    scripted.answers(good(export_json()), refusing(ExportExpiredError("gone")))
    with pytest.raises(ExportExpiredError):
        scripted.client.download(JOB.job_id, io.BytesIO())


def test_a_lost_answer_is_asked_for_under_the_same_key(scripted: Scripted) -> None:
    """So that there is one job; the body is whole each time."""
    bodies: list[bytes] = []

    def taking(answer: Any) -> Any:
        def take(handler: Handler) -> None:
            bodies.append(handler.body())
            answer(handler)

        return take

    scripted.answers(taking(lambda handler: handler.drop()), taking(good(export_json(status="PENDING", size_bytes=None, sha256=None))))
    job = scripted.client.create_export("users", fields=["email"], filters={"created_at": {"gte": "2024-01-01T00:00:00Z"}})
    assert (job.status, job.file) == (JobStatus.PENDING, None)
    keys = {headers["Idempotency-Key"] for _, _, headers in scripted.server.seen}
    assert (len(keys), len(bodies)) == (1, 2)
    assert msgspec.json.decode(bodies[1]) == msgspec.json.decode(bodies[0])
    assert msgspec.json.decode(bodies[1])["filters"] == {"created_at": {"gte": "2024-01-01T00:00:00Z"}}


@pytest.fixture(scope="module", params=[True, False], ids=["worker", "no-worker"])
def served(request: pytest.FixtureRequest, postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with users, with or without a worker."""
    folder = tmp_path_factory.mktemp("served")
    penstock = Penstock(folder)
    with postgres.fresh_database() as conninfo:
        env = {"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(folder / "data")}
        records = "".join(f"u{number}@example.com,{'N' * 200},{'admin' if number % 2 else 'user'}\n" for number in range(50_000))
        (folder / "users.csv").write_text("email,name,role\n" + records)
        assert penstock("import", "users", "users.csv", env=env).returncode == 0
        try:
            with serving(penstock, *([] if request.param else ["--no-worker"]), env=env) as found:
                yield found
        finally:
            penstock.end()


@pytest.mark.parametrize("served", [True], indirect=True, ids=["worker"])
def test_queued_exports_from_order_to_file(served: Served, tmp_path: Path) -> None:
    """The file is that of the stream, in whatever form it is asked for; every class of refusal is the server's."""
    with Server(served.url) as server:
        job = server.create_export(
            "users",
            format=Format.CSV,
            fields=["email", "role"],
            filters={"role": "admin"},
            compression=Compression.GZIP,
            idempotency_key="k",
        )
        assert (
            server.create_export(
                "users",
                format=Format.CSV,
                fields=["email", "role"],
                filters={"role": "admin"},
                compression=Compression.GZIP,
                idempotency_key="k",
            ).job_id
            == job.job_id
        )
        *_, ended = server.events(job.job_id)
        assert (ended.status, ended.processed_rows, ended.total_rows) == (JobStatus.COMPLETED, 25_000, 25_000)
        assert server.download(job.job_id, tmp_path / "u.csv.gz").file == ended.file
        out = io.BytesIO()
        server.download(job.job_id, out)
        assert out.getvalue() == (tmp_path / "u.csv.gz").read_bytes()
        assert [found.job_id for found in server.list(type=JobType.EXPORT)[0]] == [job.job_id]
        assert {found.type for found in server.list()[0]} == {JobType.IMPORT, JobType.EXPORT}
        with pytest.raises(InvalidStateError):
            server.cancel_export(job.job_id)
        with pytest.raises(InvalidStateError):
            server.retry_export(job.job_id)


@pytest.mark.parametrize("served", [False], indirect=True, ids=["no-worker"])
def test_queued_exports_that_wait(served: Served) -> None:
    """Cancelled at once, and begun anew; without a file nothing is downloaded."""
    with Server(served.url) as server:
        job = server.create_export("users")
        with pytest.raises(InvalidStateError):
            server.download(job.job_id, io.BytesIO())
        assert server.cancel_export(job.job_id).status is JobStatus.CANCELLED
        assert server.retry_export(job.job_id).status is JobStatus.PENDING
        for change in (server.cancel_export, server.retry_export):
            with pytest.raises(JobNotFoundError):
                change(JobId("ffffffff-ffff-4fff-8fff-ffffffffffff"))
        with pytest.raises(JobNotFoundError):
            server.cancel(job.job_id)  # an import's


@pytest.mark.parametrize("served", [False], indirect=True, ids=["no-worker"])
def test_streams_of_a_server(served: Served) -> None:
    """What is wrong is told by its class; what is left in the middle harms nobody; memory stays flat."""
    with Server(served.url) as server:
        for wrong, options in (
            (UnknownResourceError, {"resource": "nonsense"}),
            (InvalidOptionError, {"resource": "users", "fields": ["shoe"]}),
            (InvalidFilterError, {"resource": "users", "filters": {"role": "king"}}),
        ):
            with pytest.raises(wrong), server.export(**options):
                pass
        with server.export("users") as pieces:
            assert next(pieces).startswith(b'{"id":')
        tracemalloc.start()
        with server.export("users") as pieces:
            size = sum(map(len, pieces))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size > 15_000_000
        assert peak < 2_000_000
