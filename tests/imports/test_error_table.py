"""Each code of the contract's error table, provoked: type, row, line, field and value are those of the record at fault."""

# ruff: noqa: E501  # a case is a line of a table

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from penstock.formats.model import ReadOptions
from penstock.jobs.model import ImportOptions, JobStatus, Mode
from tests.imports.world import World

U1, U2, NOBODY = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "99999999-9999-4999-8999-999999999999"
A1 = "33333333-3333-4333-8333-333333333333"
HEADER = "id,email,name,role,active,created_at\n"
GOOD = f"{U1},ann@example.com,Ann,reader,true,2024-01-01T00:00:00Z\n"


def article(**more: Any) -> str:
    return json.dumps({"slug": "a-b", "title": "T", "body": "B", "author_id": U1} | more) + "\n"


def comment(**more: Any) -> str:
    return json.dumps({"article_id": A1, "user_id": U1, "body": "B"} | more) + "\n"


def product(**more: Any) -> str:
    return json.dumps({"id": "p1", "price": 1.5, "stock": 3} | more) + "\n"


@dataclass(frozen=True)
class Case:
    code: str
    type: str
    resource: str
    file: str  # its name; the ending tells the format
    content: str | bytes
    row: int
    line: int
    at: str | None  # the field
    value: str | None
    options: ImportOptions = field(default_factory=ImportOptions)
    good: int = 1  # records that land beside the bad one
    read: ReadOptions = field(default_factory=ReadOptions)


V, P, D, C = "VALIDATION_ERROR", "PARSE_ERROR", "DEPENDENCY_ERROR", "CONFLICT_ERROR"
INSERT, UPDATE = ImportOptions(mode=Mode.INSERT), ImportOptions(mode=Mode.UPDATE)
NESTED = '{"slug": ' + "[" * 70 + "]" * 70 + "}\n"

CASES = [
    Case("malformed_row", P, "users", "u.csv", HEADER + GOOD + "x,y\n", 2, 3, None, None),
    Case("malformed_row", P, "users", "u.csv", HEADER + GOOD + GOOD.strip() + ",more\n", 2, 3, None, None),
    Case("malformed_row", P, "users", "u.csv", HEADER + f'{U2},b@example.com,"B"ad,reader,true,\n' + GOOD, 1, 2, None, None),
    Case("malformed_json", P, "articles", "a.ndjson", article() + '{"slug": \n', 2, 2, None, None),
    Case("malformed_json", P, "articles", "a.json", f'[\n{article()},\n{{"slug": x}}]', 2, 4, None, None),
    Case("not_an_object", P, "articles", "a.ndjson", "\n[1]\n" + article(), 1, 2, None, None),
    Case("invalid_encoding", P, "users", "u.csv", HEADER.encode() + f"{U2},b@example.com,".encode() + b"J\xf6rg,reader,true,\n" + GOOD.encode(), 1, 2, None, None),
    Case("nested_too_deep", P, "articles", "a.ndjson", NESTED + article(), 1, 1, None, None),
    Case("record_too_large", P, "articles", "a.ndjson", article() + article(body="x" * 5000), 2, 2, None, None, read=ReadOptions(max_record_bytes=2000)),
    Case("email_required", V, "users", "u.csv", HEADER + GOOD + f"{U2},,Bob,reader,true,\n", 2, 3, "email", None),
    Case("name_required", V, "users", "u.csv", HEADER + GOOD + f'{U2},b@example.com,"",reader,true,\n', 2, 3, "name", None),
    Case("title_required", V, "articles", "a.ndjson", article(title=None) + article(), 1, 1, "title", None),
    Case("street_required", V, "users", "u.ndjson", json.dumps({"email": "b@example.com", "name": "B", "addresses": [{"city": "C", "state": "S", "zip_code": "1", "country": "D"}]}) + "\n", 1, 1, "addresses[0].street", None, good=0),
    Case("invalid_role", V, "users", "u.csv", HEADER + GOOD + f"{U2},b@example.com,Bob,boss,true,\n", 2, 3, "role", "boss"),
    Case("invalid_active", V, "users", "u.csv", HEADER + f"{U2},b@example.com,Bob,reader,maybe,\n" + GOOD, 1, 2, "active", "maybe"),
    Case("invalid_id", V, "users", "u.csv", HEADER + "abc,b@example.com,Bob,reader,true,\n" + GOOD, 1, 2, "id", "abc"),
    Case("invalid_created_at", V, "users", "u.csv", HEADER + GOOD + f"{U2},b@example.com,Bob,reader,true,2024-02-30T00:00:00Z\n", 2, 3, "created_at", "2024-02-30T00:00:00Z"),
    Case("invalid_name", V, "users", "u.ndjson", '{"email": "b@example.com", "name": 5}\n', 1, 1, "name", "5", good=0),
    Case("invalid_tags", V, "articles", "a.ndjson", article(tags="x") + article(), 1, 1, "tags", '"x"'),
    Case("invalid_author_id", V, "articles", "a.ndjson", article() + article(slug="c", author_id="abc"), 2, 2, "author_id", "abc"),
    Case("invalid_email_format", V, "users", "u.csv", HEADER + f"{U2},foo@bar,Bob,reader,true,\n" + GOOD, 1, 2, "email", "foo@bar"),
    Case("invalid_slug_format", V, "articles", "a.ndjson", article(slug="A b") + article(), 1, 1, "slug", "A b"),
    Case("name_too_long", V, "users", "u.csv", HEADER + GOOD + f"{U2},b@example.com,{'x' * 256},reader,true,\n", 2, 3, "name", "x" * 256),
    Case("initials_too_short", V, "things", "t.ndjson", '{"code": "a", "title": "t", "initials": "x"}\n', 1, 1, "initials", "x", good=0),
    Case("price_out_of_range", V, "products", "p.ndjson", product() + product(id="p2", price=-1), 2, 2, "price", "-1"),
    Case("stock_out_of_range", V, "products", "p.csv", "id,price,stock\np1,1,1\np2,1,3000000000\n", 2, 3, "stock", "3000000000"),
    Case("body_exceeds_500_words", V, "comments", "c.ndjson", comment() + comment(body="w " * 501), 2, 2, "body", "w " * 501),
    Case("body_too_long", V, "comments", "c.ndjson", comment(body="w" * 10_001) + comment(), 1, 1, "body", "w" * 10_001),
    Case("draft_cannot_have_published_at", V, "articles", "a.ndjson", article() + article(slug="c", status="draft", published_at="2024-01-01T00:00:00Z"), 2, 2, "published_at", "2024-01-01T00:00:00Z"),
    Case("invalid_author_id", D, "articles", "a.ndjson", article(author_id=NOBODY) + article(), 1, 1, "author_id", NOBODY),
    Case("invalid_author_id", D, "articles", "a.ndjson", article(author_id=None, author_email="eve@example.com") + article(), 1, 1, "author_email", "eve@example.com"),
    Case("invalid_author_id", D, "articles", "a.ndjson", article(author_id=U2, author_email="stored1@example.com") + article(), 1, 1, "author_email", "stored1@example.com"),
    Case("invalid_article_id", D, "comments", "c.ndjson", comment(article_id=NOBODY) + comment(), 1, 1, "article_id", NOBODY),
    Case("invalid_user_id", D, "comments", "c.ndjson", comment() + comment(user_id=NOBODY), 2, 2, "user_id", NOBODY),
    Case("duplicate_email", C, "users", "u.csv", HEADER + f"{U1},Stored2@example.com,Bob,reader,true,\n", 1, 2, "email", "Stored2@example.com", good=0),
    Case("duplicate_email", C, "users", "u.csv", HEADER + f"{NOBODY},stored2@example.com,Bob,reader,true,\n", 1, 2, "email", "stored2@example.com", INSERT, good=0),
    Case("duplicate_email", C, "users", "u.csv", "email,name\nn@example.com,N\nN@example.com,N\n", 2, 3, "email", "N@example.com", INSERT),
    Case("duplicate_slug", C, "articles", "a.ndjson", article(slug="stored"), 1, 1, "slug", "stored", INSERT, good=0),
    Case("duplicate_id", C, "users", "u.csv", HEADER + GOOD, 1, 2, "id", U1, INSERT, good=0),
    Case("duplicate_id", C, "products", "p.ndjson", product() + product(), 2, 2, "id", "p1", INSERT),
    Case("not_found", C, "users", "u.csv", HEADER + f"{NOBODY},new@example.com,Bob,reader,true,\n", 1, 2, None, None, UPDATE, good=0),
]  # fmt: skip


@pytest.fixture
def stocked(world: World) -> World:
    """Two users and an article are stored."""
    world.execute(f"INSERT INTO users (id, email, name) VALUES ('{U1}', 'stored1@example.com', 'A'), ('{U2}', 'stored2@example.com', 'B')")
    world.execute(f"INSERT INTO articles (id, slug, title, body, author_id) VALUES ('{A1}', 'stored', 'T', 'B', '{U1}')")
    return world


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.type[:3]}-{case.file}")
def test_code_of_the_table(stocked: World, case: Case) -> None:
    """The report names the record, and the others of the file land."""
    path = stocked.folder / case.file
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    imports = stocked.imports(max_record_bytes=case.read.max_record_bytes)
    job = stocked.run(case.resource, path, case.options, read=case.read, imports=imports)
    assert job.status is JobStatus.COMPLETED, job.error
    (error,) = imports.errors(job.job_id)
    assert (error["code"], error["type"], error["row"], error["line"], error["field"]) == (
        case.code,
        case.type,
        case.row,
        case.line,
        case.at,
    )
    if case.value is not None or case.at is None:
        assert error["value"] == case.value
    assert error["message"]
    assert error["record"] is not None
    assert (job.imported_rows + job.updated_rows, job.failed_rows) == (case.good, 1)


FILES = [
    ("empty_file", "u.csv", b""),
    ("empty_file", "u.ndjson", b" \n\n"),
    ("missing_columns", "u.csv", b"email,role\na@example.com,reader\n"),
    ("duplicate_columns", "u.csv", b"email,name,email\na@example.com,A,b@example.com\n"),
    ("unknown_format", "u.bin", b"\x00\x01\x02\x03\x04" * 20),
    ("truncated_file", "u.csv", b'email,name\na@example.com,A\nb@example.com,"B\n'),
    ("truncated_file", "u.json", b'[{"email": "a@example.com", "name": "A"}, {"email": "b@exa'),
]


@pytest.mark.parametrize(("code", "name", "content"), FILES)
def test_file_fails_as_a_whole(world: World, code: str, name: str, content: bytes) -> None:
    """The job says which; what was whole before the break has landed and is in the books."""
    (path := world.folder / name).write_bytes(content)
    job = world.run("users", path)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == code
    whole = 1 if code == "truncated_file" else 0
    assert (job.total_rows, job.imported_rows) == (whole, whole)


def test_file_that_changes_stops_the_import(world: World) -> None:
    """`file_changed`: the file is overwritten between two waves."""
    path: Path = world.file({"email": f"u{n}@example.com", "name": "N"} for n in range(200))

    def overwrite(_progress: object) -> None:
        path.write_text('{"email": "other@example.com", "name": "N"}\n')

    job = world.run("users", path, imports=world.imports(chunk_bytes=1024), progress=overwrite)
    assert job.error is not None
    assert job.error.code == "file_changed"
    assert 0 < job.imported_rows < 200
