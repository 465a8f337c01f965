"""Jobs over HTTP: lists, views, reports, and what can be done with them."""

import csv
import io

import httpx
import msgspec
import pytest

from penstock.bootstrap import Application
from tests.api.conftest import MakeJob
from tests.support.serving import Served

NOBODY = "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"
VIEW = {
    *("job_id", "type", "resource", "status", "mode", "format", "dry_run", "source_name", "total_rows", "processed_rows", "imported_rows"),
    *("updated_rows", "unchanged_rows", "failed_rows", "total_bytes", "processed_bytes", "progress", "rows_per_second", "eta_seconds"),
    *("attempts", "warnings", "error_summary", "errors", "errors_url", "download_url", "error", "created_at", "started_at", "updated_at"),
    *("finished_at", "request_id", "links"),
}


def test_a_job_is_shown_whole(http: httpx.Client, served: Served, make_job: MakeJob) -> None:
    """Every field of the contract, times with Z, absolute links; the same under imports and jobs."""
    job = make_job("ann@example.com,Ann", "nobody,Bob", request_id="made-by")
    view = http.get(f"/v1/imports/{job.job_id}").json()
    assert set(view) == VIEW
    assert (view["status"], view["imported_rows"], view["failed_rows"], view["total_rows"]) == ("COMPLETED", 1, 1, 2)
    assert view["request_id"] == "made-by"
    assert view["created_at"].endswith("Z")
    assert [error["code"] for error in view["errors"]] == ["invalid_email_format"]
    assert view["errors_url"] == view["links"]["errors"] == f"{served.url}/v1/imports/{job.job_id}/errors"
    assert http.get(view["links"]["self"]).status_code == 200
    assert http.get(f"/v1/jobs/{job.job_id}").json() == view
    assert http.get(f"/v1/jobs/{job.job_id.upper()}").json() == view


def test_jobs_are_paged_newest_first(http: httpx.Client, make_job: MakeJob) -> None:
    """The cursor leads through all of them, each once; filters hold on every page."""
    made = [make_job(f"p{number}@example.com,P", run=False, resource="articles", header="slug,title").job_id for number in range(5)]
    found: list[str] = []
    cursor = None
    for _ in range(3):
        parameters: dict[str, str | int] = {"resource": "articles", "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = http.get("/v1/imports", params=parameters).json()
        found += [job["job_id"] for job in page["items"]]
        cursor = page["next"]
    assert cursor is None
    assert found == made[::-1]
    assert {job["status"] for job in http.get("/v1/jobs?status=PENDING").json()["items"]} == {"PENDING"}
    assert http.get("/v1/jobs?status=FAILED").json() == {"items": [], "next": None}


@pytest.mark.parametrize("rest", ["", "/errors", "/rejected"])
def test_ids_are_whole_uuids(http: httpx.Client, make_job: MakeJob, rest: str) -> None:
    """No abbreviations: 400 invalid_id; a job that is not there: 404 job_not_found."""
    job = make_job("whole@example.com,W", run=False)
    for wrong in (job.job_id[:8], job.job_id.replace("-", ""), "x", f"{{{job.job_id}}}"):
        answer = http.get(f"/v1/imports/{wrong}{rest}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_id")
    answer = http.get(f"/v1/imports/{NOBODY}{rest}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_the_report_comes_in_three_formats(http: httpx.Client, make_job: MakeJob) -> None:
    """NDJSON, CSV and JSON hold the same problems, uncapped."""
    job = make_job(*(f"bad{number},N" for number in range(1500)))
    ndjson = http.get(f"/v1/imports/{job.job_id}/errors")
    assert ndjson.headers["content-type"] == "application/x-ndjson"
    assert ndjson.headers["content-disposition"] == f'attachment; filename="{job.job_id}-errors.ndjson"'
    records = [msgspec.json.decode(line) for line in ndjson.content.splitlines()]
    assert [record["row"] for record in records] == list(range(1, 1501))
    assert records[0]["record"] == {"email": "bad0", "name": "N"}
    assert http.get(f"/v1/imports/{job.job_id}/errors?format=json").json() == records
    as_csv = http.get(f"/v1/imports/{job.job_id}/errors?format=csv")
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [int(row["row"]) for row in rows] == list(range(1, 1501))
    assert msgspec.json.decode(rows[0]["record"]) == records[0]["record"]
    assert http.get(f"/v1/imports/{job.job_id}/errors?format=xml").status_code == 400


def test_a_job_without_problems_has_an_empty_report(http: httpx.Client, make_job: MakeJob) -> None:
    """Nothing, an empty list, a header."""
    job = make_job("fine@example.com,F")
    texts = [http.get(f"/v1/imports/{job.job_id}/errors?format={form}").text for form in ("ndjson", "json", "csv")]
    assert texts == ["", "[]\n", "row,line,type,code,field,value,message,record\r\n"]


def test_rejected_records_can_be_mended(http: httpx.Client, make_job: MakeJob) -> None:
    """They come in the file's format, with their problems beside them."""
    job = make_job("good@example.com,G", "bad,B")
    answer = http.get(f"/v1/imports/{job.job_id}/rejected")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["email"], row["name"]) == ("bad", "B")
    assert row["_errors"].startswith("invalid_email_format")


def test_cancel_and_retry(http: httpx.Client, here: Application, make_job: MakeJob) -> None:
    """A waiting job is cancelled at once, goes on when it is retried, and neither twice."""
    job = make_job("again@example.com,A", run=False)
    cancelled = http.post(f"/v1/imports/{job.job_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    refused = http.post(f"/v1/imports/{job.job_id}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invalid_state")
    retried = http.post(f"/v1/imports/{job.job_id}/retry")
    assert (retried.status_code, retried.json()["status"]) == (202, "PENDING")
    assert http.post(f"/v1/imports/{job.job_id}/retry").json()["error"]["code"] == "invalid_state"
    assert http.post(f"/v1/imports/{NOBODY}/retry").json()["error"]["code"] == "job_not_found"


def test_resources_are_described(http: httpx.Client) -> None:
    """Each field as a JSON Schema, children as arrays of objects, parents before children."""
    names = [each["name"] for each in http.get("/v1/resources").json()["items"]]
    assert names.index("users") < names.index("articles") < names.index("comments")
    users = http.get("/v1/resources/users").json()
    assert (users["primary_key"], users["natural_key"], users["caseless"]) == ("id", "email", True)
    assert users["fields"]["email"] == {"type": "string", "format": "email", "maxLength": 320}
    assert users["fields"]["addresses"]["items"]["required"] == ["street", "city", "state", "zip_code", "country"]
    assert http.get("/v1/resources/nothing").json()["error"]["code"] == "unknown_resource"


def test_records_are_read_back(http: httpx.Client, here: Application, make_job: MakeJob) -> None:
    """By their address, and users also by the address of an earlier system; keys of text may hold anything."""
    make_job("read@example.com,Read")
    make_job("a/b//c é,49.99,100", resource="products", header="id,price,stock")
    with here.database.connection() as connection:
        ((user_id,),) = connection.execute("SELECT id FROM users WHERE email = 'read@example.com'").fetchall()
    user = http.get(f"/v1/users/{user_id}").json()
    assert (user["email"], user["addresses"]) == ("read@example.com", [])
    assert http.get(f"/{user_id}").json() == {"user": user}
    for prefix in ("/v1", "/api/v1"):
        product = http.get(f"{prefix}/products/a%2Fb%2F%2Fc%20%C3%A9")
        assert product.text.startswith('{"id":"a/b//c é","price":49.99,"stock":100')
    for path, status, code in (
        ("/not-a-uuid", 400, "invalid_id"),
        (f"/{NOBODY}", 404, "record_not_found"),
        ("/v1/users/x", 400, "invalid_id"),
        (f"/v1/users/{NOBODY}", 404, "record_not_found"),
        ("/v1/products/none", 404, "record_not_found"),
        (f"/v1/nothing/{NOBODY}", 404, "route_not_found"),
    ):
        answer = http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
