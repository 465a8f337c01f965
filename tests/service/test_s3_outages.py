"""A bucket that cannot be used: at the start, and while the service runs."""

import json
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from penstock.storage import Key, Method
from tests.imports.checker import check, thing
from tests.imports.world import World
from tests.service.on_s3 import Fleet, made, send
from tests.support.bodies import FORM_TYPE, form, part, raw_request
from tests.support.buckets import Bucket
from tests.support.commands import Penstock
from tests.support.proxy import Proxy
from tests.support.serving import Served
from tests.support.waiting import until

COUNT = 200
BODY = "".join(json.dumps(thing(number)) + "\n" for number in range(1, COUNT + 1)).encode()
WRONG = {
    "secret": ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "may not be used with these credentials. Check AWS_ACCESS_KEY_ID"),
    "bucket": ({"S3_BUCKET": "no-such-bucket-here"}, "There is no bucket no-such-bucket-here. Make it, or correct S3_BUCKET."),
    "endpoint": ({"AWS_ENDPOINT": "http://127.0.0.1:1"}, "check AWS_ENDPOINT"),
}


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    with bucket.proxy() as made:
        yield made


@pytest.fixture
def behind(world: World, bucket: Bucket, proxy: Proxy, run_penstock: Penstock, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A fleet that has only the proxy's way to the bucket."""
    return Fleet(world, tmp_path_factory.mktemp("behind"), run_penstock, bucket.behind(proxy))


def go_away(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.cut()


def assert_away(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable"), answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in answer.json()["detail"]


@pytest.mark.parametrize("wrong", WRONG)
def test_nothing_starts_on_a_bucket_that_never_worked(fleet: Fleet, bucket: Bucket, run_penstock: Penstock, wrong: str) -> None:
    """Exit status 1 and what to correct; the database does not take such a storage for its own, so that correcting it is enough."""
    if (wrong, bucket.kind) == ("secret", "localstack"):
        pytest.skip("LocalStack takes any secret")
    change, told = WRONG[wrong]
    for command in (("serve", "--no-worker"), ("worker",)):
        refused = run_penstock(*command, env=fleet.environment("data", **change))
        assert refused.returncode == 1, refused.stderr
        assert told in refused.stderr
        assert "Traceback" not in refused.stderr
    assert fleet.world.rows("SELECT FROM penstock.shared_values WHERE name = 'storage'") == []
    with fleet.serving("--no-worker") as served:
        assert served.http.get("/ready").is_success


def test_a_wrong_secret_later(fleet: Fleet, bucket: Bucket, run_penstock: Penstock) -> None:
    """Whoever starts with it is refused, also where the bucket has worked for others."""
    if bucket.kind == "localstack":
        pytest.skip("LocalStack takes any secret")
    with fleet.serving("--no-worker"):
        refused = run_penstock("worker", env=fleet.environment("data", AWS_SECRET_ACCESS_KEY="wrong"))
    assert (refused.returncode, WRONG["secret"][1] in refused.stderr) == (1, True)


def to_fetch(served: Served, bucket: Bucket) -> str:
    """A job whose file is to be stored first, from an address that stays reachable. It has no records of its own."""
    bucket.put("elsewhere/a.ndjson", BODY)
    link = bucket.storage.sign(Method.GET, Key("elsewhere/a.ndjson"), timedelta(minutes=5))
    return made(served.http.post("/v1/imports", json={"resource": "things", "file_url": link.url, "dry_run": True}))


def test_away_while_the_service_runs(behind: Fleet, bucket: Bucket, proxy: Proxy) -> None:
    """Requests that need it get 503 and the others go on; a job is tried again later, and ends well when the bucket is back."""
    with behind.serving("--no-worker") as served:
        job = send(served.http, BODY)
        offer = served.http.post("/v1/uploads", json={"filename": "a.ndjson", "resource": "things"}).json()
        fetching = to_fetch(served, bucket)
        go_away(proxy)
        with behind.working() as worker:  # it starts all the same: this bucket has worked
            assert until(lambda: worker.log.says("storage is away: files can neither be stored nor read until it is back"))
            assert until(lambda: behind.attempts(job) == behind.attempts(fetching) == ["interrupted"]), behind.attempts(fetching)
            assert_requests_answered(served, offer["upload_id"], job)
            proxy.accept()
            assert until(lambda: served.http.get("/ready").is_success)
            # The pause before the next attempt is over.
            behind.world.execute("UPDATE penstock.attempts SET ended_at = ended_at - interval '1 minute'")
            behind.ended(job)
            check(behind.world, job, COUNT)
            assert behind.ended(fetching)["status"] == "COMPLETED"
            assert behind.attempts(job) == ["interrupted", "COMPLETED"]
            failures = behind.world.rows("SELECT DISTINCT failure ->> 'code' AS code FROM penstock.attempts WHERE epoch = 1")
            assert failures == [{"code": "storage_unavailable"}]
            again = send(served.http, BODY)
            assert behind.ended(again)["status"] == "COMPLETED"


def assert_requests_answered(served: Served, upload_id: str, job: str) -> None:
    http = served.http
    assert_away(http.post("/v1/imports", data={"resource": "things"}, files={"file": ("a.ndjson", BODY)}))
    assert_away(http.post("/v1/imports", json={"upload_id": upload_id, "resource": "things"}))
    assert http.get(f"/v1/imports/{job}").json()["status"] in ("PENDING", "PROCESSING")
    health = http.get("/health")
    assert (health.status_code, health.json()["checks"]["storage"]["status"]) == (503, "failed")
    assert health.json()["checks"]["storage"]["message"] == "storage_unavailable"
    assert health.json()["checks"]["database"]["status"] == "ok"
    assert http.get("/ready").status_code == 503
    assert http.get("/live").status_code == 200


def test_away_in_the_middle_of_an_upload(behind: Fleet, bucket: Bucket, proxy: Proxy) -> None:
    """Parts are stored already when the bucket goes: 503 with Retry-After, no object and no job; the same file is taken later."""
    fields = form(part("resource", b"things"), part("file", b"x" * (3 * 8 * 1024 * 1024), "things.csv"))
    head = ["POST /v1/imports HTTP/1.1", f"Content-Type: {FORM_TYPE}", f"Content-Length: {len(fields)}"]

    def pieces() -> Iterator[bytes]:
        yield fields[: 10 * 1024 * 1024]
        assert until(bucket.pending)
        go_away(proxy)
        yield fields[10 * 1024 * 1024 :]

    with behind.serving("--no-worker") as served:
        answer = raw_request(served.url, head, pieces())
        assert not answer or b"storage_unavailable" in answer
        assert until(lambda: any(line["event"] == "request failed" for line in served.lines))
        assert behind.world.rows("SELECT FROM penstock.jobs") == []
        proxy.accept()
        assert bucket.objects() == []
        assert until(lambda: served.http.get("/ready").is_success)
        send(served.http, BODY)
        assert len(bucket.objects()) == 1
