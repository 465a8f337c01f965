"""Files sent ahead by signed links, fetched by signed links, and looked at before they are imported."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from penstock.bootstrap import Application
from penstock.jobs.model import JobId
from penstock.storage import Key, Method
from tests.support.bodies import FORM_TYPE, form, part, raw_request
from tests.support.serving import Served

LIMIT = 3_000_000
USERS = b"E-Mail;NAME;Shoe size\nann@example.com;Ann;39\nnobody;Bob;44\n"


@pytest.fixture(scope="module")
def environment(conninfo: str, folder: Path) -> dict[str, str]:
    (folder / "base").mkdir()
    (folder / "base" / "users.csv").write_bytes(USERS)
    return {
        "DATABASE_URL": conninfo,
        "PENSTOCK_DATA_DIR": str(folder / "data"),
        "IMPORT_BASE_DIR": str(folder / "base"),
        "MAX_UPLOAD_BYTES": str(LIMIT),
        "UPLOAD_IDLE_SECONDS": "1",
    }


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def _offer(http: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = http.post("/v1/uploads", json={"filename": "users.csv", **more})
    assert answer.status_code == 201
    offer: dict[str, Any] = answer.json()
    return offer


def _import(http: httpx.Client, upload_id: str, **more: Any) -> httpx.Response:
    return http.post("/v1/imports", json={"upload_id": upload_id, "resource": "users", **more})


def test_a_file_is_sent_ahead_and_serves_several_imports(http: httpx.Client, here: Application) -> None:
    offer = _offer(http, resource="users")
    assert (offer["method"], offer["expires_at"][-1]) == ("PUT", "Z")
    assert _code(_import(http, offer["upload_id"])) == (404, "upload_not_found")
    assert http.put(offer["url"], content=b"half").status_code == 200
    assert http.put(offer["url"], content=USERS, headers=offer["headers"]).status_code == 200
    first, second = _import(http, offer["upload_id"], resource=None), _import(http, offer["upload_id"], dry_run=True)
    assert (first.status_code, second.status_code) == (202, 202)
    job = here.imports.get(JobId(first.json()["job_id"]))
    assert (job.resource, job.source_name, job.total_bytes) == ("users", "users.csv", len(USERS))
    # An import reads it now: it does not change any more.
    assert _code(http.put(offer["url"], content=b"other")) == (409, "invalid_state")


def test_an_upload_past_its_time_is_gone(http: httpx.Client, conninfo: str) -> None:
    offer = _offer(http)
    assert http.put(offer["url"], content=USERS).status_code == 200
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE penstock.files SET expires_at = now() WHERE upload_id = %s", [offer["upload_id"]])
    assert _code(_import(http, offer["upload_id"])) == (404, "upload_not_found")
    assert _code(http.put(offer["url"], content=USERS)) == (404, "upload_not_found")


def test_what_names_no_upload_is_refused(http: httpx.Client) -> None:
    assert _code(_import(http, "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f")) == (404, "upload_not_found")
    assert _code(_import(http, "../../etc")) == (400, "invalid_id")
    assert _import(http, "../../etc").json()["detail"].startswith("The id of an upload is a UUID")
    assert _code(http.post("/v1/uploads", json={})) == (400, "invalid_option")
    assert _code(http.post("/v1/uploads", json={"filename": "a.csv", "size": 5})) == (400, "invalid_option")
    assert _code(http.post("/v1/uploads", json={"filename": "a.csv", "resource": "nothing"})) == (404, "unknown_resource")


def test_links_are_for_one_object_and_one_purpose(http: httpx.Client) -> None:
    """Altered in any part, or used for something else: 403, and nothing is stored."""
    url = httpx.URL(_offer(http)["url"])
    other = _offer(http)["url"]
    forged = [
        url.copy_set_param("expires", "99999999999"),
        url.copy_set_param("signature", "0" * 64),
        url.copy_add_param("signature", url.params["signature"]),
        url.copy_add_param("more", "x"),
        url.copy_remove_param("signature"),
        url.copy_with(path=httpx.URL(other).path),
        url.copy_with(path="/v1/storage/../../etc/passwd"),
        url.copy_with(path="/v1/storage/.partial/x"),
    ]
    for link in forged:
        answer = http.put(link, content=USERS)
        assert answer.status_code in {403, 404}, link
    assert _code(http.get(url)) == (403, "invalid_link")


def test_a_cut_put_leaves_what_was_there(served: Served, http: httpx.Client, here: Application) -> None:
    offer = _offer(http)
    url = httpx.URL(offer["url"])
    assert http.put(url, content=USERS).status_code == 200
    raw_request(served.url, [f"PUT {url.raw_path.decode()} HTTP/1.1", "Content-Length: 1000"], [b"x" * 10], hang_up=True)
    key = Key(url.path.removeprefix("/v1/storage/"))
    assert b"".join(here.storage.read(key)) == USERS
    assert _code(http.put(url, content=b"x" * (LIMIT + 1))) == (413, "payload_too_large")
    assert b"".join(here.storage.read(key)) == USERS


@pytest.fixture(scope="module")
def link(here: Application) -> Iterator[str]:
    key = Key("reports/test/errors.ndjson")
    here.storage.write(key, [b"0123456789"])
    yield here.storage.sign(Method.GET, key, timedelta(minutes=5), filename='Größe\r\n"<script>.html').url
    here.storage.delete(key)


def test_a_download_is_always_saved_never_shown(http: httpx.Client, link: str) -> None:
    answer = http.get(link)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert http.head(link).headers["content-length"] == "10"


RANGES = {
    "bytes=2-4": (206, b"234", "bytes 2-4/10"),
    "bytes=7-": (206, b"789", "bytes 7-9/10"),
    "bytes=-3": (206, b"789", "bytes 7-9/10"),
    "bytes=8-100": (206, b"89", "bytes 8-9/10"),
    "bytes=0-9": (200, b"0123456789", None),
    "bytes=10-": (416, b"", "bytes */10"),
    "bytes=-0": (416, b"", "bytes */10"),
    "bytes=5-2": (200, b"0123456789", None),
    "bytes=0-1,3-4": (200, b"0123456789", None),
    "lines=0-1": (200, b"0123456789", None),
    "bytes=-": (200, b"0123456789", None),
}


@pytest.mark.parametrize("asked", RANGES)
def test_one_range_is_honoured(http: httpx.Client, link: str, asked: str) -> None:
    """What is no single range of bytes is passed over, as RFC 9110 wants it."""
    answer = http.get(link, headers={"range": asked})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == RANGES[asked]


def test_a_range_of_a_file_that_changed_is_the_whole_file(http: httpx.Client, link: str) -> None:
    etag = http.get(link).headers["etag"]
    assert http.get(link, headers={"range": "bytes=0-0", "if-range": etag}).status_code == 206
    assert http.get(link, headers={"range": "bytes=0-0", "if-range": '"other"'}).status_code == 200


def _previews(http: httpx.Client) -> list[dict[str, Any]]:
    """The same file, by every road."""
    offer = _offer(http, resource="users")
    assert http.put(offer["url"], content=USERS).status_code == 200
    answers = [
        http.post(
            "/v1/imports/preview",
            content=form(part("resource", b"users"), part("file", USERS, "users.csv")),
            headers={"content-type": FORM_TYPE},
        ),
        http.post("/v1/imports/preview?resource=users", content=USERS, headers={"content-type": "text/csv"}),
        http.post("/v1/imports/preview", json={"resource": "users", "source_path": "users.csv"}),
        http.post("/v1/imports/preview", json={"upload_id": offer["upload_id"]}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    return [answer.json() for answer in answers]


def test_a_preview_is_the_same_by_every_road(http: httpx.Client, conninfo: str) -> None:
    """And it makes no job and stores nothing."""
    previews = _previews(http)
    for shown in previews:
        assert (shown["format"], shown["delimiter"], shown["columns"]) == ("csv", ";", ["E-Mail", "NAME", "Shoe size"])
        assert shown["mapping"] == {"E-Mail": "email", "NAME": "name"}
        assert shown["unmapped"] == ["Shoe size"]
        assert [(problem["row"], problem["line"], problem["code"]) for problem in shown["problems"]] == [(2, 3, "invalid_email_format")]
    with psycopg.connect(conninfo) as connection:
        left = connection.execute("SELECT count(*) FROM penstock.files WHERE upload_id IS NULL").fetchone()
    assert left == (0,)


def test_only_the_beginning_of_a_large_file_is_looked_at(http: httpx.Client) -> None:
    """The rest is not read, and where it was cut is no fault."""
    lines = b"".join(b"user%d@example.com;Name %d;1\n" % (n, n) for n in range(70_000))
    data = USERS.splitlines(keepends=True)[0] + lines
    assert 1024 * 1024 < len(data) < LIMIT
    in_form = form(part("resource", b"users"), part("file", data, "users.csv"))
    for answer in (
        http.post("/v1/imports/preview?resource=users", content=data, headers={"content-type": "text/csv"}),
        http.post("/v1/imports/preview", content=in_form, headers={"content-type": FORM_TYPE}),
    ):
        shown = answer.json()
        assert (answer.status_code, shown["whole"], len(shown["records"]), shown["problems"], shown["faults"]) == (200, False, 20, [], [])


def test_what_cannot_be_looked_at_says_why(http: httpx.Client) -> None:
    empty = http.post("/v1/imports/preview", content=b"", headers={"content-type": "text/csv"})
    assert _code(empty) == (422, "empty_file")
    picture = http.post("/v1/imports/preview", content=b"\x89PNG\r\n\x1a\n", headers={"content-type": "application/octet-stream"})
    assert _code(picture) == (415, "unknown_format")
    assert _code(http.post("/v1/imports/preview", json={"resource": "nothing", "source_path": "users.csv"})) == (404, "unknown_resource")
