"""What holds for every request, whatever it asks."""

import re
import socket

import httpx
import pytest

from tests.support.serving import Served

NOBODY = "0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f"


def test_request_id_is_taken_or_made(served: Served, http: httpx.Client) -> None:
    """1 to 128 visible ASCII characters are taken as they are and stand in the log; anything else is replaced."""
    assert http.get("/v1/jobs", headers={"X-Request-ID": "my-id~1"}).headers["x-request-id"] == "my-id~1"
    assert served.logged("request", request_id="my-id~1", route="/v1/jobs", status=200, method="GET")
    for wrong in ("", "x" * 129, "two words", "tab\there"):
        made = http.get("/live", headers={"X-Request-ID": wrong}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_errors_are_problems(http: httpx.Client) -> None:
    """RFC 9457 with the code, the request id, and the address as the client wrote it."""
    answer = http.get(f"/api/v1/jobs/{NOBODY}", headers={"X-Request-ID": "r1"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "instance", "error", "request_id"} == set(problem)
    assert problem["error"]["code"] == "job_not_found"
    assert (problem["status"], problem["request_id"], problem["instance"]) == (404, "r1", f"/api/v1/jobs/{NOBODY}")


@pytest.mark.parametrize(
    "path", ["/jobs", f"/imports/{NOBODY}", "/resources", "/resources/users", f"/users/{NOBODY}", "/nothing", "/jobs?x=1"]
)
def test_both_prefixes_answer_the_same(http: httpx.Client, path: str) -> None:
    """`/api/v1/...` is `/v1/...`."""
    one, other = (http.get(prefix + path) for prefix in ("/v1", "/api/v1"))
    assert one.status_code == other.status_code
    drop = ("request_id", "instance")
    assert {k: v for k, v in one.json().items() if k not in drop} == {k: v for k, v in other.json().items() if k not in drop}


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/jobs", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", f"/v1/jobs/{NOBODY}", {"GET", "HEAD", "OPTIONS"}),
        ("GET", f"/v1/imports/{NOBODY}/cancel", {"POST", "OPTIONS"}),
        ("PATCH", "/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(http: httpx.Client, method: str, path: str, allow: set[str]) -> None:
    """405 with Allow."""
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize("path", ["/live", "/health", "/v1/jobs", f"/v1/jobs/{NOBODY}", "/docs", "/openapi.json"])
def test_head_is_get_without_its_body(http: httpx.Client, path: str) -> None:
    """Status and type are those of GET."""
    head, whole = http.head(path), http.get(path)
    assert (head.status_code, head.headers["content-type"], head.content) == (whole.status_code, whole.headers["content-type"], b"")


def test_options_tells_the_methods(http: httpx.Client) -> None:
    """OPTIONS is answered with Allow and nothing else."""
    answer = http.options("/v1/jobs")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "GET" in answer.headers["allow"]


def test_answers_protect_themselves(http: httpx.Client) -> None:
    """No sniffing, no framing, nothing kept by caches on the way."""
    for path in ("/v1/jobs", "/nowhere/at/all", f"/v1/jobs/{NOBODY}"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ("/v1/jobs?lmit=3", "invalid_option", "limit"),
        ("/v1/jobs?limit=3&limit=4", "invalid_option", "more than once"),
        ("/live?x=", "invalid_option", "none"),
        ("/v1/jobs?limit=0", "invalid_request", "from 1 to 200"),
        ("/v1/jobs?limit=201", "invalid_request", "from 1 to 200"),
        ("/v1/jobs?limit=many", "invalid_request", "from 1 to 200"),
        ("/v1/jobs?status=DONE", "invalid_request", "PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED"),
        ("/v1/jobs?resource=nothing", "invalid_option", "users"),
        ("/v1/jobs?resource=%00", "invalid_option", "users"),
        ("/v1/jobs?cursor=!!!", "invalid_option", "cursor"),
        ("/v1/jobs?cursor=YWJj", "invalid_option", "cursor"),
        ("/v1/jobs?cursor=" + "A" * 300, "invalid_request", "200 characters"),
    ],
)
def test_parameters_are_strict(http: httpx.Client, path: str, code: str, told: str) -> None:
    """What is unknown, given twice or wrong is refused, with what is allowed."""
    answer = http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/%00", "/v1/jobs/%00", "/v1/products/%00", "/v1/products/%ff", "/v1/users/%F0%9F%98%80", "/%e2%80%ae", "/v1/imports/%2e%2e%2fx"],
)
def test_garbage_in_a_path_is_the_clients_fault(http: httpx.Client, path: str) -> None:
    """NUL, bytes that are no UTF-8, emoji and turned writing: 400 or 404, never 5xx."""
    answer = http.get(path)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] in ("invalid_id", "route_not_found", "record_not_found")


def test_a_fault_names_the_parameter_as_clients_write_it(http: httpx.Client) -> None:
    """`format`, whatever the handler calls it."""
    answer = http.get(f"/v1/imports/{NOBODY}/errors?format=xml").json()
    assert answer["error"]["details"]["faults"][0]["field"] == "format"
    assert "`format`: allowed is ndjson, csv, json" in answer["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"Origin": "http://localhost:1"}, 404),
        ({"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "same-origin"}, 404),  # a proxy may name another host
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine is another site's as well
    ],
)
def test_pages_of_other_sites_change_nothing(http: httpx.Client, headers: dict[str, str], status: int) -> None:
    """What a browser says of the page decides; programs say nothing. Reading goes on, for the page cannot see the answer."""
    headers |= {"Host": "localhost:1"}
    assert http.post(f"/v1/imports/{NOBODY}/cancel", headers=headers).status_code == status
    assert http.get("/v1/jobs", headers=headers).status_code == 200


def test_a_long_address_is_refused(http: httpx.Client) -> None:
    """Above 16 KiB."""
    answer = http.get("/v1/jobs?cursor=" + "A" * 17_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -4\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /live HTTP/1.1\r\nHost: a b{}\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"a" * 140_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",  # a server that speaks HTTP/2 also waits for ever to see which it is
    ],
)
def test_what_is_no_http_is_refused(served: Served, sent: bytes) -> None:
    """A 4xx or a closed connection; the server goes on."""
    with socket.create_connection(("127.0.0.1", httpx.URL(served.url).port or 0), timeout=10) as raw:
        raw.sendall(sent)
        first = raw.recv(100)
    assert first == b"" or re.match(rb"HTTP/1\.[01] 4\d\d", first)
    assert served.http.get("/live").is_success


def test_a_client_is_told_that_its_connection_ends(served: Served) -> None:
    """Where the body was not taken whole: else it would lose the next request that it sends there."""
    head = "POST /v1/imports?resource=nothing HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 9\r\n"
    for expectation, told in (("Expect: 100-continue\r\n\r\n", True), ("\r\n123456789", False)):
        with socket.create_connection(("127.0.0.1", httpx.URL(served.url).port or 0), timeout=10) as raw:
            raw.sendall((head + expectation).encode())
            answer = raw.recv(4000).lower()
        assert answer.startswith(b"http/1.1 404")
        assert (b"\r\nconnection: close\r\n" in answer) == told


def test_the_log_has_templates_and_no_queries(served: Served, http: httpx.Client) -> None:
    """One line per request: nothing that a client wrote but method and request id."""
    http.get(f"/v1/imports/{NOBODY}?secret=s3cret", headers={"X-Request-ID": "templates"})
    assert served.logged("request", request_id="templates", route="/v1/imports/{job_id}", status=400)
    assert not any("s3cret" in str(line) for line in served.lines)


def test_operations(http: httpx.Client) -> None:
    """The probes' shapes."""
    for path in ("/health", "/healthz"):
        health = http.get(path).json()
        assert health["status"] == "healthy"
        assert {name: check["status"] for name, check in health["checks"].items()} == {"database": "ok", "storage": "ok"}
    assert http.get("/api/ping").json() == {"message": "pong"}
    assert http.get("/live").json() == {"status": "alive"}
    assert http.get("/ready").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost:8080", "LOCALHOST", "127.0.0.1", "127.9.9.9:1", "[::1]:8080")),
        *((host, 421) for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::1", "localhost.evil.example:80")),
    ],
)
def test_names_of_other_machines_are_not_answered(http: httpx.Client, host: str, status: int) -> None:
    """A page under a name that was made to mean this machine gets nothing from it."""
    answer = http.get("/v1/jobs", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert answer.json()["error"]["code"] == "unknown_host"
