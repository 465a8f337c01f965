"""Queued exports over HTTP: ordered, looked at, fetched, cancelled, and told apart from imports."""

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from penstock.bootstrap import Application
from penstock.jobs.model import JobId
from tests.api.conftest import MakeJob
from tests.support.serving import Served

NOBODY = "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"
VIEW = {
    *("job_id", "type", "resource", "status", "format", "fields", "filters", "compression", "spreadsheet", "total_rows", "processed_rows"),
    *("progress", "rows_per_second", "eta_seconds", "attempts", "file_name", "size_bytes", "sha256", "download_url", "expires_at", "error"),
    *("created_at", "started_at", "updated_at", "finished_at", "request_id", "links"),
}
Run = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module", autouse=True)
def users(here: Application) -> None:
    with here.database.connection() as connection:
        connection.execute(
            "INSERT INTO users (email, name, role) "
            "SELECT 'u' || n || '@example.com', 'User ' || n, 'admin' FROM generate_series(1, 20) AS n"
        )


@pytest.fixture
def run(here: Application) -> Run:
    """As a worker would."""

    def carry(view: dict[str, Any]) -> None:
        here.exports.run(JobId(view["job_id"]), cancel=threading.Event())

    return carry


def _ordered(http: httpx.Client, **asked: Any) -> dict[str, Any]:
    answer = http.post("/v1/exports", json={"resource": "users", **asked})
    assert answer.status_code == 202, answer.text
    view: dict[str, Any] = answer.json()
    return view


def test_an_export_is_ordered_and_fetched(http: httpx.Client, served: Served, run: Run) -> None:
    """From 202 to the bytes: what the stream gives, with the size and digest that the job tells."""
    made = http.post(
        "/v1/exports",
        json={"resource": "users", "format": "csv", "fields": ["id", "email"], "filters": {"role": "admin", "name": {"ne": "User 1"}}},
        headers={"X-Request-ID": "ordered"},
    ).json()
    base = f"{served.url}/v1/exports/{made['job_id']}"
    assert (made["type"], made["resource"], made["status"]) == ("EXPORT", "users", "PENDING")
    assert made["links"] == {
        "self": base,
        "events": f"{served.url}/v1/jobs/{made['job_id']}/events",
        "download": f"{base}/download",
        "cancel": f"{base}/cancel",
        "retry": f"{base}/retry",
    }
    waiting = http.get(base).json()
    assert set(waiting) == VIEW
    assert (waiting["fields"], waiting["filters"]) == (["id", "email"], {"role": "admin", "name[ne]": "User 1"})
    assert (waiting["download_url"], waiting["sha256"], waiting["size_bytes"], waiting["request_id"]) == (None, None, None, "ordered")
    early = http.get(f"{base}/download")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "invalid_state")
    run(made)
    done = http.get(base).json()
    assert (done["status"], done["total_rows"], done["processed_rows"], done["progress"]) == ("COMPLETED", 19, 19, 1.0)
    assert done["file_name"] == "users.csv"
    assert datetime.fromisoformat(done["expires_at"]) > datetime.now(UTC)
    redirect = http.get(f"{base}/download")
    assert (redirect.status_code, redirect.headers["cache-control"], redirect.content) == (307, "no-store", b"")
    fetched = http.get(redirect.headers["location"])
    assert fetched.headers["content-disposition"] == 'attachment; filename="users.csv"'
    assert (len(fetched.content), hashlib.sha256(fetched.content).hexdigest()) == (done["size_bytes"], done["sha256"])
    assert fetched.content == http.get("/v1/exports?resource=users&format=csv&fields=id,email&role=admin&name[ne]=User%201").content
    assert http.get(done["download_url"]).content == fetched.content


def test_an_expired_export_is_gone(http: httpx.Client, here: Application, run: Run) -> None:
    """410 at its address, and no link any more."""
    made = _ordered(http)
    run(made)
    with here.database.connection() as connection:
        connection.execute(
            "UPDATE penstock.jobs SET result = jsonb_set(result, '{expires_at}', '\"2024-01-01T00:00:00Z\"') WHERE job_id = %s",
            [made["job_id"]],
        )
    answer = http.get(f"/v1/exports/{made['job_id']}/download")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "export_expired")
    assert http.get(f"/v1/exports/{made['job_id']}").json()["download_url"] is None


@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        ({}, 400, "invalid_option", "users"),
        ({"resource": "nobody"}, 404, "unknown_resource", "users"),
        ({"resource": "users", "format": "xml"}, 400, "invalid_option", "ndjson"),
        ({"resource": "users", "colour": "red"}, 400, "invalid_option", "fields"),
        ({"resource": "users", "fields": []}, 400, "invalid_option", "email"),
        ({"resource": "users", "filters": {"rol": "admin"}}, 400, "invalid_filter", "role"),
        ({"resource": "users", "filters": {"role": None}}, 400, "invalid_filter", "is_null"),
        ({"resource": "users", "format": "parquet", "compression": "gzip"}, 400, "invalid_option", "none"),
    ],
)
def test_what_is_wrong_makes_no_job(http: httpx.Client, body: dict[str, Any], status: int, code: str, told: str) -> None:
    """A problem that names what is allowed."""
    before = http.get("/v1/jobs?type=EXPORT&limit=1").json()["items"][:1]
    answer = http.post("/v1/exports", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert told in answer.json()["error"]["message"]
    assert [job["job_id"] for job in http.get("/v1/jobs?type=EXPORT&limit=1").json()["items"]] == [job["job_id"] for job in before]


def test_fractions_keep_their_digits(http: httpx.Client) -> None:
    """What no float can hold is compared as it is written."""
    body = b'{"resource": "products", "filters": {"price": {"gte": 0.10, "lt": 9007199254740993.25}}}'
    made = http.post("/v1/exports", content=body, headers={"Content-Type": "application/json"}).json()
    assert http.get(made["links"]["self"]).json()["filters"]["price[lt]"] == "9007199254740993.25"


@pytest.mark.parametrize(
    "body", ['{"resource": "users", "resource": "articles"}', '{"resource": "users", "filters": {"role": "a", "role": "b"}}']
)
def test_no_key_stands_twice(http: httpx.Client, body: str) -> None:
    """Else the last would count, and the first be ignored."""
    answer = http.post("/v1/exports", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert "more than once" in answer.json()["error"]["message"]


def test_only_json_orders_exports(http: httpx.Client) -> None:
    """Other bodies are refused with what is taken, and so are parameters in the query."""
    answer = http.post("/v1/exports", content=b"resource=users", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert answer.json()["error"]["details"]["allowed"] == ["application/json"]
    assert (
        http.post("/v1/exports", content=b"[1]", headers={"Content-Type": "application/json"}).json()["error"]["code"] == "invalid_request"
    )
    assert http.post("/v1/exports?resource=users", json={"resource": "users"}).json()["error"]["code"] == "invalid_option"


def test_the_same_order_twice_is_one_job(http: httpx.Client) -> None:
    """By Idempotency-Key: 202, then 200 with the same job, however it is written; 422 for another order."""
    headers = {"Idempotency-Key": "order-1"}
    first = http.post("/v1/exports", json={"resource": "users", "filters": {"role": "admin"}}, headers=headers)
    again = http.post("/v1/exports", json={"filters": {"role[eq]": "admin"}, "resource": "users", "format": "ndjson"}, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["job_id"] == again.json()["job_id"]
    other = http.post("/v1/exports", json={"resource": "users"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    wrong = http.post("/v1/exports", json={"resource": "users", "format": "xml"}, headers={"Idempotency-Key": "order-2"})
    assert wrong.status_code == 400
    assert http.post("/v1/exports", json={"resource": "users"}, headers={"Idempotency-Key": "order-2"}).status_code == 202


def test_an_export_is_cancelled_and_retried(http: httpx.Client, run: Run) -> None:
    """A waiting one at once; it leaves no file. Retried, it is done anew."""
    made = _ordered(http)
    address = f"/v1/exports/{made['job_id']}"
    cancelled = http.post(f"{address}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["download_url"]) == (200, "CANCELLED", None)
    assert http.post(f"{address}/cancel").json()["error"]["code"] == "invalid_state"
    assert http.get(f"{address}/download").json()["error"]["code"] == "invalid_state"
    retried = http.post(f"{address}/retry")
    assert (retried.status_code, retried.json()["status"]) == (202, "PENDING")
    assert http.post(f"{address}/retry").json()["error"]["code"] == "invalid_state"
    run(made)
    assert http.get(address).json()["status"] == "COMPLETED"


def test_jobs_of_both_kinds_stand_in_one_list(http: httpx.Client, make_job: MakeJob) -> None:
    """`type` tells and chooses; the lists and addresses of imports know imports only."""
    imported = make_job("both@example.com,B")
    exported = _ordered(http)
    kinds = {job["job_id"]: job["type"] for job in http.get("/v1/jobs?limit=200").json()["items"]}
    assert (kinds[imported.job_id], kinds[exported["job_id"]]) == ("IMPORT", "EXPORT")
    for kind in ("IMPORT", "EXPORT"):
        assert {job["type"] for job in http.get(f"/v1/jobs?type={kind}").json()["items"]} == {kind}
    assert {job["type"] for job in http.get("/v1/imports?limit=200").json()["items"]} == {"IMPORT"}
    assert http.get("/v1/jobs?type=DELETE").status_code == 400
    assert http.get(f"/v1/jobs/{exported['job_id']}").json() == http.get(f"/v1/exports/{exported['job_id']}").json()


@pytest.mark.parametrize("rest", ["", "/errors", "/rejected", "/cancel", "/retry"])
def test_an_export_is_no_import(http: httpx.Client, rest: str) -> None:
    """404 that says where it is."""
    made = _ordered(http)
    answer = http.request("POST" if rest in ("/cancel", "/retry") else "GET", f"/v1/imports/{made['job_id']}{rest}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
    assert f"/v1/exports/{made['job_id']}" in answer.json()["error"]["message"]
    assert http.get(f"/v1/exports/{made['job_id']}").json()["status"] == "PENDING"


@pytest.mark.parametrize("rest", ["", "/download", "/cancel", "/retry"])
def test_an_import_is_no_export(http: httpx.Client, make_job: MakeJob, rest: str) -> None:
    """404 that says where it is; ids are whole UUIDs."""
    method = "POST" if rest in ("/cancel", "/retry") else "GET"
    job = make_job("import@example.com,I", run=False)
    answer = http.request(method, f"/v1/exports/{job.job_id}{rest}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
    assert f"/v1/imports/{job.job_id}" in answer.json()["error"]["message"]
    assert http.request(method, f"/v1/exports/{NOBODY}{rest}").json()["error"]["code"] == "job_not_found"
    wrong = http.request(method, f"/v1/exports/users{rest}")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_id")


def test_an_export_is_followed(http: httpx.Client, run: Run) -> None:
    """Its events end with its last state."""
    made = _ordered(http)
    run(made)
    events = http.get(f"/v1/jobs/{made['job_id']}/events").text
    assert events.startswith("event: job\n")
    assert '"status":"COMPLETED"' in events
    assert '"type":"EXPORT"' in events


@pytest.mark.parametrize("path", ["", f"/{NOBODY}/cancel", f"/{NOBODY}/retry"])
def test_pages_of_other_sites_order_nothing(http: httpx.Client, path: str) -> None:
    """As for every request that changes something."""
    answer = http.post(f"/v1/exports{path}", json={"resource": "users"}, headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site_request")
