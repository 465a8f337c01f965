"""Records streamed over HTTP: formats, filters, what is refused, codings, heads."""

import csv
import gzip
import io
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import psycopg
import pyarrow.parquet as pq
import pytest
import zstandard

from penstock.bootstrap import Application
from tests.support.serving import Served

_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
USERS = 50


@pytest.fixture(scope="module", autouse=True)
def users(here: Application) -> None:
    """Half of them admins, with one article each of the first three."""
    with here.database.connection() as connection:
        connection.execute(
            "INSERT INTO users (email, name, role, created_at, updated_at) SELECT 'u' || n || '@example.com', 'User ' || n, "
            "CASE n %% 2 WHEN 0 THEN 'admin' ELSE 'reader' END, '2024-01-01'::timestamptz + n * interval '1 day', '2024-06-01Z' "
            "FROM generate_series(1, %s) AS n",
            [USERS],
        )
        connection.execute(
            "INSERT INTO articles (slug, title, body, author_id, tags) SELECT 'a-' || right(name, 1), 'T', 'B', id, '{x,y}' FROM users "
            "WHERE email IN ('u1@example.com', 'u2@example.com', 'u3@example.com')"
        )


@pytest.fixture
def connection(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as found:
        yield found


def _records(answer: httpx.Response, form: str) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    match form:
        case "csv":
            return list(csv.DictReader(io.StringIO(answer.text)))
        case "ndjson":
            return [msgspec.json.decode(line) for line in answer.content.splitlines()]
        case "json":
            return list(answer.json())
        case _:
            return list(pq.read_table(io.BytesIO(answer.content)).to_pylist())


def _unpacked(raw: bytes, coding: str | None) -> bytes:
    if coding == "gzip":
        return gzip.decompress(raw)
    return zstandard.ZstdDecompressor().decompress(raw, max_output_size=2**20) if coding == "zstd" else raw


@pytest.mark.parametrize("form", list(_TYPES))
def test_every_format_holds_every_record(http: httpx.Client, form: str) -> None:
    """With its media type, as a file to save, at both addresses, never kept by caches."""
    answer = http.get(f"/v1/exports?resource=users&format={form}&fields=email,name")
    assert sorted(record["email"] for record in _records(answer, form)) == sorted(f"u{n}@example.com" for n in range(1, USERS + 1))
    assert answer.headers["content-type"] == _TYPES[form]
    assert answer.headers["content-disposition"] == f'attachment; filename="users.{form}"'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"].lower() == "accept-encoding"
    assert "etag" not in answer.headers
    assert http.get(f"/api/v1/exports/users/stream?format={form}&fields=email,name").content == answer.content


def test_ndjson_with_all_fields_is_the_default(http: httpx.Client) -> None:
    """Every field and the children, in the order of the resource; records in the order of the primary key."""
    records = _records(http.get("/v1/exports?resource=users"), "ndjson")
    assert list(records[0]) == ["id", "email", "name", "phone_number", "role", "active", "created_at", "updated_at", "addresses"]
    assert [record["id"] for record in records] == sorted(record["id"] for record in records)
    assert records[0]["addresses"] == []


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("resource=users&role=admin", 25),
        ("resource=users&role[ne]=admin&created_at[gte]=2024-01-11T00:00:00Z", 20),
        ("resource=users&email[in]=U1@example.com,u2@example.com", 2),
        ("resource=users&name[like]=User%201_", 10),
        ("resource=users&phone_number[is_null]=true", USERS),
        ("resource=users&username=User%203", 1),
        ("resource=articles&author=u2@example.com", 1),
        ("resource=articles&tag=x&author=User%203", 1),
        ("resource=articles&status=archived", 0),
    ],
)
def test_filters_choose(http: httpx.Client, query: str, count: int) -> None:
    """By field, operator and declared name; all must hold."""
    assert len(_records(http.get(f"/v1/exports?{query}"), "ndjson")) == count


@pytest.mark.parametrize(
    ("query", "status", "code", "told"),
    [
        ("", 400, "invalid_option", "/v1/jobs?type=EXPORT"),
        ("?format=csv", 400, "invalid_option", "users"),
        ("?resource=nobody", 404, "unknown_resource", "users"),
        ("?resource=users&format=xml", 400, "invalid_option", "ndjson"),
        ("?resource=users&fields=emial", 400, "invalid_option", "email"),
        ("?resource=users&rol=admin", 400, "invalid_filter", "role"),
        ("?resource=users&role=boss", 400, "invalid_filter", "admin"),
        ("?resource=users&active[gt]=true", 400, "invalid_filter", "is_null"),
        ("?resource=users&format=csv&format=json", 400, "invalid_option", "more than once"),
        ("?resource=users&name[like]=%BA%25", 400, "invalid_option", "%25"),
        ("?resource=users&compression=gzip", 400, "invalid_option", "Accept-Encoding"),
        ("?resource=users&spreadsheet=true", 400, "invalid_option", "csv"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(http: httpx.Client, query: str, status: int, code: str, told: str) -> None:
    """A problem that names what is allowed; nothing is ignored."""
    answer = http.get("/v1/exports" + query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("*", "zstd"),
        ("zstd;q=0, *;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("br, deflate", None),
        ("gzip;q=0.5, identity", None),
    ],
)
def test_the_coding_is_what_the_client_weighs_most(http: httpx.Client, accepted: str, coding: str | None) -> None:
    """Of zstd and gzip, the first where both are as welcome; the same bytes inside."""
    plain = http.get("/v1/exports?resource=users&format=csv", headers={"Accept-Encoding": "identity"}).content
    with http.stream("GET", "/v1/exports?resource=users&format=csv", headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding") == coding
    assert _unpacked(raw, coding) == plain
    assert answer.headers["vary"].lower() == "accept-encoding"


def test_parquet_is_not_compressed_again(http: httpx.Client) -> None:
    """It is compressed inside."""
    answer = http.get("/v1/exports?resource=users&format=parquet", headers={"Accept-Encoding": "gzip, zstd"})
    assert "content-encoding" not in answer.headers
    assert answer.content[:4] == b"PAR1"


def test_a_spreadsheet_is_marked(http: httpx.Client) -> None:
    """With a byte order mark and the column that tells an import of it."""
    content = http.get("/v1/exports?resource=users&format=csv&fields=email&spreadsheet=true").content
    assert content.startswith(b"\xef\xbb\xbfemail,_spreadsheet\n")


def test_head_is_answered_without_reading(served: Served, http: httpx.Client) -> None:
    """The headers of GET; the log tells of no stream."""
    headers = {"Accept-Encoding": "gzip", "X-Request-ID": "only-the-head"}
    head = http.head("/v1/exports?resource=users&format=csv", headers=headers)
    whole = http.get("/v1/exports?resource=users&format=csv", headers={"Accept-Encoding": "gzip"})
    changing = {"x-request-id", "date", "transfer-encoding"}
    assert {k: v for k, v in head.headers.items() if k not in changing} == {k: v for k, v in whole.headers.items() if k not in changing}
    assert head.content == b""
    assert served.logged("request", request_id="only-the-head", method="HEAD", status=200)
    assert not [line for line in served.lines if line["event"] == "export streamed" and line.get("request_id") == "only-the-head"]


def test_an_export_shows_one_moment(http: httpx.Client, connection: psycopg.Connection[Any]) -> None:
    """What is committed while a stream is under way is not in it: the sum of two columns that are changed together stays."""
    connection.execute("INSERT INTO products (id, price, stock) SELECT 'p' || n, 1, 1 FROM generate_series(1, 200000) AS n")
    with http.stream(
        "GET", "/v1/exports?resource=products&format=csv&fields=price,stock", headers={"Accept-Encoding": "identity"}
    ) as answer:
        blocks = answer.iter_bytes(65536)
        text = next(blocks)
        connection.execute("UPDATE products SET price = 2, stock = 2 WHERE id > 'p5'")
        connection.execute("DELETE FROM products WHERE id < 'p2'")
        text += b"".join(blocks)
    lines = text.splitlines()
    assert (len(lines), set(lines[1:])) == (200_001, {b"1.00,1"})
