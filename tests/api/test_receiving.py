"""Files over HTTP, against a real server: what arrives whole becomes a job, what does not leaves nothing."""

import gzip
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from penstock.bootstrap import Application
from penstock.jobs.model import JobId, Mode
from tests.support.bodies import BOUNDARY, FORM_TYPE, form, part, raw_request
from tests.support.serving import Served
from tests.support.waiting import until

LIMIT = 300_000
USERS = b"email,name\nann@example.com,Ann\nbob@example.com,Bob\n"
FILE = part("file", USERS, "users.csv")
RESOURCE = part("resource", b"users")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """The folder that clients may name files of, with one to each side of its fence."""
    base = folder / "base"
    (base / "daily").mkdir(parents=True)
    (base / "daily" / "users_data.json").write_text('[{"email": "q@example.com", "name": "Q"}]')
    (base / "users.xml").write_text("<users/>")
    (folder / "secret.csv").write_bytes(USERS)
    (base / "link.csv").symlink_to(folder / "secret.csv")
    os.mkfifo(base / "pipe.csv")
    return base


@pytest.fixture(scope="module")
def environment(conninfo: str, folder: Path, base: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": conninfo,
        "PENSTOCK_DATA_DIR": str(folder / "data"),
        "IMPORT_BASE_DIR": str(base),
        "MAX_UPLOAD_BYTES": str(LIMIT),
        "UPLOAD_IDLE_SECONDS": "1",
        "FILE_URL_ALLOWED_NETWORKS": "127.0.0.0/8",
    }


@contextmanager
def nothing_made(here: Application, conninfo: str) -> Iterator[None]:
    """No job, no row of a file, no object, no key came of what happens inside; what is taken back may take a moment."""
    before = _standing(here, conninfo)
    yield
    assert until(lambda: _standing(here, conninfo) == before, 10), (before, _standing(here, conninfo))


def _standing(here: Application, conninfo: str) -> dict[str, Any]:
    query = "SELECT (SELECT count(*) FROM penstock.jobs), (SELECT count(*) FROM penstock.files), count(*) FROM penstock.idempotency_keys"
    with psycopg.connect(conninfo) as connection:
        counts = connection.execute(query).fetchone()
    return {"counts": counts, "objects": [found.key for found in here.storage.list("")], "parts": _partials(here)}


def _partials(here: Application) -> list[str]:
    folder = here.settings.penstock_data_dir / "storage" / ".partial"
    return sorted(entry.name for entry in folder.iterdir())


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def _post_form(http: httpx.Client, *parts: bytes, key: str | None = None) -> httpx.Response:
    return http.post("/v1/imports", content=form(*parts), headers={"content-type": FORM_TYPE, **_keyed(key)})


def _post_raw(http: httpx.Client, content: bytes = USERS, query: str = "resource=users", *, key: str | None = None) -> httpx.Response:
    return http.post(f"/v1/imports?{query}", content=content, headers={"content-type": "text/csv", **_keyed(key)})


def _keyed(key: str | None) -> dict[str, str]:
    return {} if key is None else {"idempotency-key": key}


def _bytes_of(here: Application, conninfo: str, job_id: str) -> bytes:
    """What lies in storage for the job."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT key FROM penstock.files WHERE job_id = %s", [job_id]).fetchone()
    assert row is not None
    return b"".join(here.storage.read(row[0]))


@pytest.mark.parametrize("parts", [[RESOURCE, FILE], [FILE, RESOURCE]], ids=["fields before", "fields behind"])
def test_a_form_becomes_a_job(http: httpx.Client, here: Application, conninfo: str, parts: list[bytes]) -> None:
    """Fields may stand on either side of the file; the file lies in storage as it was sent, and belongs to the job."""
    answer = _post_form(http, part("mode", b"insert"), *parts)
    assert answer.status_code == 202
    assert answer.json()["status"] == "PENDING"
    job = here.imports.get(JobId(answer.json()["job_id"]))
    assert (job.mode, job.source_name, job.total_bytes) == (Mode.INSERT, "users.csv", len(USERS))
    assert job.request_id == answer.headers["x-request-id"]
    assert _bytes_of(here, conninfo, job.job_id) == USERS


def test_a_body_can_be_the_file(http: httpx.Client, here: Application, conninfo: str) -> None:
    """Also compressed, also under the second prefix; options stand in the query."""
    packed = gzip.compress(USERS)
    headers = {"content-type": "text/csv; charset=latin-1", "content-encoding": "gzip"}
    answer = http.post("/api/v1/imports?resource=users&dry_run=yes", content=packed, headers=headers)
    assert answer.status_code == 202
    job = here.imports.get(JobId(answer.json()["job_id"]))
    assert job.dry_run
    assert _bytes_of(here, conninfo, job.job_id) == packed


def test_json_is_a_request_unless_the_query_says_that_it_is_the_file(http: httpx.Client) -> None:
    records = [{"email": "x@example.com", "name": "X"}]
    assert http.post("/v1/imports?resource=users&format=json", json=records).status_code == 202
    assert _code(http.post("/v1/imports", json=records)) == (400, "invalid_request")


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_the_form_of_the_earlier_systems(http: httpx.Client, prefix: str) -> None:
    answer = http.post(f"{prefix}/imports/users", json={"source_path": "daily/users_data.json"})
    assert answer.status_code == 202
    job_id = answer.json()["data"]["job_id"]
    assert answer.json() == {"data": {"job_id": job_id, "status": "queued"}}
    assert http.get(f"/v1/imports/{job_id}").json()["source_name"] == "users_data.json"


FORBIDDEN_PATHS = ["../secret.csv", "link.csv", "/etc/passwd", "daily/../../secret.csv", "pipe.csv", "daily", ".", "none.csv", "a\0b.csv"]


@pytest.mark.parametrize("path", FORBIDDEN_PATHS)
def test_only_files_below_the_folder_can_be_named(http: httpx.Client, here: Application, conninfo: str, path: str) -> None:
    """What lies elsewhere is answered like what is not there."""
    with nothing_made(here, conninfo):
        answer = http.post("/v1/imports", json={"resource": "users", "source_path": path})
        assert _code(answer) == (400, "invalid_source")
        assert "below the server's import folder" in answer.json()["error"]["message"]


def test_the_earlier_form_takes_three_endings(http: httpx.Client) -> None:
    assert _code(http.post("/v1/imports/users", json={"source_path": "users.xml"})) == (400, "invalid_source")
    assert _code(http.post("/v1/imports/users", json={})) == (400, "invalid_source")
    assert _code(http.post("/v1/imports/nothing", json={"source_path": "daily/users_data.json"})) == (404, "unknown_resource")


BROKEN_FORMS: dict[str, tuple[list[bytes], tuple[int, str]]] = {
    "no file": ([RESOURCE], (400, "invalid_source")),
    "two files": ([RESOURCE, FILE, FILE], (400, "malformed_multipart")),
    "file under another name": ([RESOURCE, part("data", USERS, "users.csv")], (400, "malformed_multipart")),
    "doubled field": ([RESOURCE, FILE, RESOURCE], (400, "malformed_multipart")),
    "field without a name": ([RESOURCE, FILE, part("", b"x")], (400, "malformed_multipart")),
    "field too long": ([RESOURCE, FILE, part("mapping", b"x" * 65_537)], (400, "malformed_multipart")),
    "field not UTF-8": ([FILE, part("resource", b"\xff\xfe")], (400, "malformed_multipart")),
    "too many fields": ([RESOURCE, FILE, *[part(f"f{n}", b"x") for n in range(40)]], (400, "malformed_multipart")),
    "header too long": ([RESOURCE, FILE, part("mode", b"x", None, "X-A: " + "a" * 5000)], (400, "malformed_multipart")),
    "base64": ([RESOURCE, part("file", b"eA==", "users.csv", "Content-Transfer-Encoding: base64")], (400, "malformed_multipart")),
    "unknown option": ([RESOURCE, FILE, part("moed", b"insert")], (400, "invalid_option")),
    "wrong value": ([RESOURCE, FILE, part("mode", b"replace")], (400, "invalid_option")),
    "wrong value before the file": ([part("max_errors", b"-1"), RESOURCE, FILE], (400, "invalid_option")),
    "mapping to nothing": ([RESOURCE, FILE, part("mapping", b'{"email": "mail"}')], (400, "invalid_option")),
    "timezone of nowhere": ([RESOURCE, FILE, part("timezone", b"Mars/Olympus")], (400, "invalid_option")),
    "no resource": ([FILE], (400, "invalid_option")),
    "unknown resource": ([FILE, part("resource", b"nothing")], (404, "unknown_resource")),
    "empty file": ([RESOURCE, part("file", b"", "users.csv")], (422, "empty_file")),
    "file too large": ([RESOURCE, part("file", b"x" * (LIMIT + 1), "users.csv")], (413, "payload_too_large")),
}


@pytest.mark.parametrize("name", BROKEN_FORMS)
def test_a_form_that_is_refused_leaves_nothing(http: httpx.Client, here: Application, conninfo: str, name: str) -> None:
    """Also where its file was whole and stored when the fault came."""
    parts, expected = BROKEN_FORMS[name]
    with nothing_made(here, conninfo):
        assert _code(_post_form(http, *parts)) == expected


def test_what_is_wrong_with_a_form_is_told_in_words(http: httpx.Client) -> None:
    """Nothing of what Python raised: a name that is no UTF-8."""
    answer = _post_form(http, RESOURCE, FILE.replace(b"users.csv", b"\xff.csv"))
    assert answer.json()["detail"] == "The form is not well-formed multipart/form-data: Segment header failed to decode."


def test_a_form_without_a_boundary_is_refused(http: httpx.Client, here: Application, conninfo: str) -> None:
    with nothing_made(here, conninfo):
        answer = http.post("/v1/imports", content=form(RESOURCE, FILE), headers={"content-type": "multipart/form-data"})
        assert _code(answer) == (400, "malformed_multipart")
        answer = http.post("/v1/imports", content=form(RESOURCE, FILE), headers={"content-type": "multipart/form-data; boundary=other"})
        assert _code(answer) == (400, "incomplete_body")


REFUSED = {
    "no type": ({}, (415, "unsupported_media_type")),
    "a web form": ({"content-type": "application/x-www-form-urlencoded"}, (415, "unsupported_media_type")),
    "a workbook": ({"content-type": "application/vnd.ms-excel"}, (415, "unsupported_media_type")),
    "brotli": ({"content-type": "text/csv", "content-encoding": "br"}, (415, "unsupported_media_type")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bodies_that_are_not_taken(http: httpx.Client, here: Application, conninfo: str, name: str) -> None:
    headers, expected = REFUSED[name]
    with nothing_made(here, conninfo):
        assert _code(http.post("/v1/imports?resource=users", content=USERS, headers=headers)) == expected


def test_empty_and_too_large_bodies_leave_nothing(http: httpx.Client, here: Application, conninfo: str) -> None:
    """Too large is told by the announced length, and where none is announced as soon as the limit is passed."""
    with nothing_made(here, conninfo):
        assert _code(_post_raw(http, b"")) == (422, "empty_file")
        assert _code(_post_raw(http, b"x" * (LIMIT + 1))) == (413, "payload_too_large")
        pieces = (b"x" * 10_000 for _ in range(LIMIT // 10_000 + 1))
        answer = http.post("/v1/imports?resource=users", content=pieces, headers={"content-type": "text/csv"})
        assert _code(answer) == (413, "payload_too_large")


HEAD_RAW = ["POST /v1/imports?resource=users HTTP/1.1", "Content-Type: text/csv"]
HEAD_FORM = ["POST /v1/imports HTTP/1.1", f"Content-Type: {FORM_TYPE}"]
CHUNK = f"{len(USERS):x}\r\n".encode() + USERS + b"\r\n"
OPEN_FORM = RESOURCE + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="u.csv"\r\n\r\n'.encode() + USERS
CUT: dict[str, tuple[list[str], list[bytes], bool]] = {
    "raw, hung up": ([*HEAD_RAW, "Content-Length: 1000"], [USERS], True),
    "raw, stalled": ([*HEAD_RAW, "Content-Length: 1000"], [USERS], False),
    "chunks, hung up": ([*HEAD_RAW, "Transfer-Encoding: chunked"], [CHUNK], True),
    "chunks, stalled": ([*HEAD_RAW, "Transfer-Encoding: chunked"], [CHUNK], False),
    "chunks, broken": ([*HEAD_RAW, "Transfer-Encoding: chunked"], [CHUNK, b"zz\r\n"], True),
    "form, hung up": ([*HEAD_FORM, "Content-Length: 5000"], [OPEN_FORM], True),
    "form, stalled": ([*HEAD_FORM, "Content-Length: 5000"], [OPEN_FORM], False),
    "form, whole but short of its length": ([*HEAD_FORM, "Content-Length: 5000"], [form(RESOURCE, FILE)], True),
    "form, its length cuts it": ([*HEAD_FORM, f"Content-Length: {len(OPEN_FORM)}"], [form(RESOURCE, FILE)], True),
}


@pytest.mark.parametrize("name", CUT)
def test_a_body_that_is_cut_or_stalls_leaves_nothing(served: Served, here: Application, conninfo: str, name: str) -> None:
    """No job, no row, no object; where an answer still reaches the client it is a 4xx that says so."""
    head, pieces, hang_up = CUT[name]
    with nothing_made(here, conninfo):
        answer = raw_request(served.url, head, pieces, hang_up=hang_up)
        if answer:
            assert re.match(rb"HTTP/1.1 (400|408) ", answer), answer[:500]
        if "stalled" in name:
            assert b'"body_timeout"' in answer


def test_a_refusal_reaches_a_client_that_still_sends(served: Served) -> None:
    """The connection is not reset under an answer that has not been read."""
    for _ in range(3):
        answer = raw_request(
            served.url, [HEAD_RAW[0].replace("users", "nothing"), HEAD_RAW[1], "Content-Length: 9000000"], [b"x" * 9_000_000]
        )
        assert answer.startswith(b"HTTP/1.1 404")


def test_a_client_that_vanishes_leaves_nothing(served: Served, here: Application, conninfo: str) -> None:
    """Also with an Idempotency-Key, which is free again."""
    with nothing_made(here, conninfo):
        head = [*HEAD_RAW, "Content-Length: 1000", "Idempotency-Key: vanished"]
        raw_request(served.url, head, [USERS], hang_up=True)
    answer = _post_raw(served.http, key="vanished")
    assert answer.status_code == 202


@pytest.mark.parametrize("post", [_post_raw, lambda http, key: _post_form(http, RESOURCE, FILE, key=key)], ids=["raw", "form"])
def test_the_same_request_again_gets_the_first_job(http: httpx.Client, here: Application, conninfo: str, post: Callable[..., Any]) -> None:
    """200 with the first job, bare or quoted; nothing is stored a second time."""
    key = f"again-{id(post)}"
    first = post(http, key=key)
    assert first.status_code == 202
    with nothing_made(here, conninfo):
        second = post(http, key=f'"{key}"')
        assert second.status_code == 200
        assert second.json()["job_id"] == first.json()["job_id"]


def test_another_request_with_the_same_key_is_refused(http: httpx.Client, here: Application, conninfo: str) -> None:
    """Other options, other bytes, another kind of body; an option that is said and is the default is no other one."""
    key = "reused"
    assert _post_raw(http, key=key).status_code == 202
    with nothing_made(here, conninfo):
        assert _post_raw(http, query="resource=users&mode=upsert", key=key).status_code == 200
        assert _code(_post_raw(http, query="resource=users&mode=insert", key=key)) == (422, "idempotency_key_reused")
        assert _code(_post_raw(http, USERS + b"x@example.com,X\n", key=key)) == (422, "idempotency_key_reused")
        assert _code(_post_form(http, RESOURCE, FILE, key=key)) == (422, "idempotency_key_reused")
        assert _code(_post_raw(http, key="no spaces")) == (400, "invalid_option")


def test_a_request_that_failed_frees_its_key(http: httpx.Client) -> None:
    key = "freed"
    assert _code(_post_raw(http, b"", key=key)) == (422, "empty_file")
    assert _post_raw(http, key=key).status_code == 202


def test_a_key_is_taken_while_its_first_request_is_received(served: Served, http: httpx.Client) -> None:
    """409 with Retry-After meanwhile; the first request then completes, and its job is the answer."""
    seen: list[httpx.Response] = []

    def pieces() -> Iterator[bytes]:
        yield USERS[:20]
        with httpx.Client(base_url=served.url, timeout=20, trust_env=False) as other:
            # The first request holds the key once the server has its head; until then the other one would be the first.
            assert until(lambda: _reserved(other, seen), 5)
        yield USERS[20:]

    headers = {"content-type": "text/csv", "idempotency-key": "in-flight"}
    first = http.post("/v1/imports?resource=users", content=pieces(), headers=headers)
    assert first.status_code == 202
    assert _code(seen[-1]) == (409, "idempotency_in_progress")
    assert int(seen[-1].headers["retry-after"]) > 0
    again = _post_raw(http, key="in-flight")
    assert (again.status_code, again.json()["job_id"]) == (200, first.json()["job_id"])


def _reserved(other: httpx.Client, seen: list[httpx.Response]) -> bool:
    # An empty body can never take the key for good.
    seen.append(_post_raw(other, b"", key="in-flight"))
    return seen[-1].status_code == 409


def test_a_url_that_may_not_be_fetched_is_refused_at_once(http: httpx.Client, here: Application, conninfo: str) -> None:
    with nothing_made(here, conninfo):
        for url in ("http://169.254.169.254/latest/", "http://[::ffff:10.0.0.1]/", "file:///etc/passwd", "http://u:p@127.0.0.1/"):
            answer = http.post("/v1/imports", json={"resource": "users", "file_url": url})
            assert _code(answer) == (400, "forbidden_url")
    answer = http.post("/v1/imports", json={"resource": "users", "file_url": "http://127.0.0.1:9/users.csv"})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "given", [{}, {"source_path": "a.csv", "upload_id": "b"}, {"source_path": ""}, {"upload_id": 7}], ids=["none", "two", "empty", "number"]
)
def test_a_json_request_names_exactly_one_source(http: httpx.Client, given: dict[str, Any]) -> None:
    assert _code(http.post("/v1/imports", json={"resource": "users", **given})) == (400, "invalid_source")


def test_options_of_json_are_checked_like_those_of_a_form(http: httpx.Client) -> None:
    """The answer names the option, the value and what is allowed."""
    request = {"resource": "users", "source_path": "daily/users_data.json"}
    answer = http.post("/v1/imports", json={**request, "on_error": "stop"})
    assert _code(answer) == (400, "invalid_option")
    assert answer.json()["error"]["details"] == {"option": "on_error", "value": "stop", "allowed": ["continue", "abort"]}
    answer = http.post("/v1/imports", json={**request, "dryrun": True})
    assert answer.json()["error"]["details"]["near"] == ["dry_run"]
    assert _code(http.post("/v1/imports?mode=insert", json=request)) == (400, "invalid_option")
    assert _code(http.post("/v1/imports", content=b"[" * 100_000, headers={"content-type": "application/json"})) == (400, "invalid_request")
