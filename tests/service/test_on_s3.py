"""The service with its files in a bucket: every road into it, and what each process leaves there."""

import gzip
import io
import json
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from penstock.bootstrap import Application
from penstock.settings import load_settings
from penstock.storage import Key, Method
from penstock.workers.housekeeping import Housekeeping
from tests.imports.checker import check, letters, thing
from tests.service.on_s3 import Fleet, made, send
from tests.service.test_fleet import stopped
from tests.support.bodies import FORM_TYPE, part, raw_request
from tests.support.buckets import Bucket
from tests.support.waiting import until

COUNT = 1200
PART = 8 * 1024 * 1024


def ndjson(*numbers: int) -> bytes:
    return "".join(json.dumps(thing(number)) + "\n" for number in numbers).encode()


def csv(*numbers: int) -> bytes:
    return b"code,title\n" + b"".join(f"{letters(number)},t{number}\n".encode() for number in numbers)


def parquet(*numbers: int) -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"code": [letters(number) for number in numbers], "title": [f"t{number}" for number in numbers]}).write_parquet(out)
    return out.getvalue()


def sent_ahead(http: httpx.Client, body: bytes, name: str) -> str:
    """By the signed link, which leads to the bucket itself."""
    offer = http.post("/v1/uploads", json={"filename": name, "resource": "things"}).json()
    assert not offer["url"].startswith(str(http.base_url))
    early = http.post("/v1/imports", json={"upload_id": offer["upload_id"]})
    assert (early.status_code, early.json()["error"]["code"]) == (404, "upload_not_found")
    httpx.put(offer["url"], content=body, headers=offer["headers"], trust_env=False).raise_for_status()
    return made(http.post("/v1/imports", json={"upload_id": offer["upload_id"]}))


def fetched(http: httpx.Client, bucket: Bucket, body: bytes) -> str:
    bucket.put("elsewhere/data.csv", body)
    link = bucket.storage.sign(Method.GET, Key("elsewhere/data.csv"), timedelta(minutes=5))
    return made(http.post("/v1/imports", json={"resource": "things", "file_url": link.url}))


def test_every_road_into_the_bucket(fleet: Fleet, bucket: Bucket) -> None:
    """A worker with another data folder imports all of them; one object each, which the ledger knows; nothing lies in a folder."""
    with fleet.serving("--no-worker") as served, fleet.working():
        http = served.http
        raw = http.post(
            "/v1/imports", params={"resource": "things"}, content=gzip.compress(csv(101, 102)), headers={"Content-Type": "text/csv"}
        )
        jobs = [
            send(http, ndjson(1, 2)),
            made(raw),
            sent_ahead(http, parquet(201, 202), "things.parquet"),
            sent_ahead(http, gzip.compress(ndjson(301, 302)), "things.ndjson.gz"),
            fetched(http, bucket, csv(401, 402)),
        ]
        for job in jobs:
            found = fleet.ended(job)
            assert (found["status"], found["imported_rows"], found["failed_rows"]) == ("COMPLETED", 2, 0), found["failure"]
        assert fleet.world.rows("SELECT count(*) AS n FROM things") == [{"n": 10}]
        assert bucket.objects() == sorted([*fleet.files(), "elsewhere/data.csv"])
        assert len(fleet.files()) == len(jobs)
        assert bucket.pending() == []
        assert http.get("/health").json()["checks"]["storage"]["status"] == "ok"
    assert [path for name in ("server", "worker") for path in (fleet.folder / name).rglob("*") if path.is_file()] == []


def test_reports_and_retention(fleet: Fleet, bucket: Bucket) -> None:
    """The report comes from the bucket under its own name, the records to mend through the server; when their time is over, objects go."""
    with fleet.serving("--no-worker") as served, fleet.working():
        job = send(served.http, ndjson(*range(1, 101)))
        assert fleet.ended(job)["failed_rows"] == 5
        assert until(lambda: served.http.get(f"/v1/imports/{job}").json()["download_url"])
        url = served.http.get(f"/v1/imports/{job}").json()["download_url"]
        assert url.startswith(bucket.env["AWS_ENDPOINT"])
        report = httpx.get(url, trust_env=False)
        assert report.headers["Content-Disposition"].startswith(f'attachment; filename="{job}-errors.ndjson"')
        assert report.content == served.http.get(f"/v1/imports/{job}/errors").content
        assert [json.loads(line)["row"] for line in report.text.splitlines()] == [20, 40, 60, 80, 100]
        assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1"), trust_env=False).status_code == 403
        mendable = [json.loads(line) for line in served.http.get(f"/v1/imports/{job}/rejected").text.splitlines()]
        assert [(record["code"], record["title"]) for record in mendable] == [
            (letters(n), "much too long a title") for n in range(20, 101, 20)
        ]
        assert bucket.objects() == fleet.files()
        assert len(fleet.files()) == 2
        fleet.world.execute("UPDATE penstock.files SET expires_at = now() - interval '1 second'")
        Housekeeping(_application(fleet), threading.Event()).keep()
        assert (bucket.objects(), fleet.files()) == ([], [])
        assert served.http.get(f"/v1/imports/{job}").json()["download_url"] is None


def _application(fleet: Fleet) -> Application:
    settings = load_settings(fleet.environment("here"), Path("/nonexistent"))
    return Application(settings, fleet.world.registry, fleet.world.database)


def beginning(bucket: Bucket, body: bytes) -> Iterator[bytes]:
    """More than a part, and then nothing until the bucket has an upload under way."""
    yield body[: PART + 2_000_000]
    assert until(bucket.pending)


def test_a_file_that_does_not_arrive_whole_leaves_nothing(fleet: Fleet, bucket: Bucket) -> None:
    """Cut, stalled, or without its last boundary, in the middle of a multipart upload: that is aborted; no object, no row, no job."""
    fields = part("resource", b"things") + part("file", b"x" * (3 * PART), "things.csv")
    head = ["POST /v1/imports HTTP/1.1", f"Content-Type: {FORM_TYPE}", f"Content-Length: {len(fields)}"]
    with fleet.serving("--no-worker") as served:
        for hang_up, answers in ((True, (b"", b"incomplete_body")), (False, (b"body_timeout",))):
            answer = raw_request(served.url, head, beginning(bucket, fields), hang_up=hang_up)
            assert any(code in answer for code in answers), answer
            assert until(lambda: fleet.files() == [])
            assert (bucket.objects(), bucket.pending()) == ([], [])
        assert b"incomplete_body" in raw_request(served.url, head, [fields])
        assert until(lambda: fleet.files() == [])
        assert (bucket.objects(), bucket.pending()) == ([], [])
        assert fleet.world.rows("SELECT FROM penstock.jobs") == []


def test_a_killed_worker(fleet: Fleet) -> None:
    """SIGKILL in mid-import: another one goes on in the bucket from where the ledger stands, exactly."""
    with fleet.serving("--no-worker") as served, fleet.working("dying", CRASH_AT="wave-done:1") as dying:
        job = send(served.http, ndjson(*range(1, COUNT + 1)))
        assert dying.process.wait(30) == -signal.SIGKILL
        assert not fleet.job(job)["finished_at"]
        with fleet.working():
            fleet.ended(job)
    check(fleet.world, job, COUNT)
    assert fleet.attempts(job) == ["lost", "COMPLETED"]


def overwritten(bucket: Bucket, key: str) -> None:
    bucket.put(key, ndjson(*range(5001, 5001 + COUNT)))


def removed(bucket: Bucket, key: str) -> None:
    bucket.storage.delete(Key(key))


@pytest.mark.parametrize("change", [overwritten, removed])
def test_an_object_that_changes_under_an_import(fleet: Fleet, bucket: Bucket, change: Callable[[Bucket, str], None]) -> None:
    """In mid-import: FAILED with file_changed, and a retry says so again; what landed before is in the books."""
    with fleet.serving("--no-worker") as served, fleet.working(PAUSE_AT="wave-planned:1") as worker:
        job = send(served.http, ndjson(*range(1, COUNT + 1)))
        assert until(lambda: stopped(worker.process.pid))
        change(bucket, bucket.objects()[0])
        worker.process.send_signal(signal.SIGCONT)
        found = fleet.ended(job)
        assert (found["status"], found["failure"]["code"]) == ("FAILED", "file_changed")
        assert "things.ndjson" in found["failure"]["message"]
        assert served.http.post(f"/v1/imports/{job}/retry").status_code == 202
        assert until(lambda: len(fleet.attempts(job)) == 2)
        assert fleet.ended(job)["failure"]["code"] == "file_changed"
        rows = fleet.world.rows("SELECT count(*) AS n FROM things")[0]["n"]
        assert rows == served.http.get(f"/v1/imports/{job}").json()["imported_rows"]


def test_an_object_that_is_gone_before_its_import(fleet: Fleet, bucket: Bucket) -> None:
    """FAILED, and the reason says what to do."""
    with fleet.serving("--no-worker") as served:
        job = send(served.http, ndjson(1, 2))
        bucket.storage.delete(Key(bucket.objects()[0]))
        with fleet.working():
            fleet.ended(job)
        shown = served.http.get(f"/v1/imports/{job}").json()
    assert (shown["status"], shown["error"]["code"]) == ("FAILED", "file_changed")
    assert "send it again" in shown["error"]["message"]
