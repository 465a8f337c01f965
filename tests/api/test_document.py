"""The OpenAPI document, and the page that shows it."""

import re

import httpx

from penstock import errors
from penstock.errors import PenstockError

CODES = {c.code for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PenstockError)}


def test_every_operation_is_told(http: httpx.Client) -> None:
    """A name of its own, a summary, a tag, and its errors by their codes, as problems."""
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) > 15
    for operation in operations:
        assert operation["summary"]
        assert operation["tags"]
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")) and "application/problem+json" in response.get("content", {}):
                assert set(re.findall("`([a-z_]+)`", response["description"])) <= CODES
        assert {"500", "503"} <= set(operation["responses"])


def test_one_prefix_is_shown(http: httpx.Client) -> None:
    """/api/v1 answers, but the document has /v1, save for one address of an earlier system; no two paths are of one shape."""
    paths = set(http.get("/openapi.json").json()["paths"])
    assert [path for path in paths if path.startswith("/api/v1")] == ["/api/v1/imports/{resource}"]
    shapes = [re.sub(r"\{[^}]*\}", "{}", path) for path in paths]
    assert len(set(shapes)) == len(shapes)
    assert {f"/v1/{name}/{{record_id}}" for name in ("users", "articles", "comments", "products")} <= paths


def test_the_viewer_needs_nothing_from_elsewhere(http: httpx.Client) -> None:
    """Its page names only files that the server has, and the policy forbids all others."""
    page = http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    parts = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        answer = http.get(f"/{part}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))
    assert "//" not in re.sub(r"(src|href)=", "", page.text)
    assert http.get("/docs/other.js").status_code == 404
