"""Records that depend on each other in ways that only some tables and options bring out; each once came out wrong."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from penstock.formats.model import ReadOptions
from penstock.imports.ledger import Ledger
from penstock.imports.street import Street
from penstock.jobs.model import ImportOptions, JobStatus, Mode, OnError
from tests.imports.world import World, books, ignore
from tests.support.proxy import Loss, Proxy

A, B = (str(UUID(int=n, version=4)) for n in (1, 2))
NODES = """
name: nodes
schema:
  primaryKey: id
  naturalKey: code
  fields:
    - {name: id, type: string, format: uuid}
    - {name: code, type: string, constraints: {required: true, maxLength: 9}}
    - {name: parent_id, type: string, format: uuid}
    - {name: target, type: string}
    - {name: by_id, type: string}
  foreignKeys:
    - {fields: parent_id, reference: {resource: nodes, fields: id}}
"""
LOGS = """
name: logs
schema:
  primaryKey: id
  fields:
    - {name: id, type: string, format: uuid}
    - {name: title, type: string}
"""
SMALL, LARGE = 1, 4_000_000


def codes(world: World, table: str = "nodes") -> dict[str, Any]:
    column = "parent_id" if table == "nodes" else "title"
    return {r["code"]: r[column] and str(r[column]) for r in world.rows(f"SELECT code, {column} FROM {table}")}


@pytest.fixture
def nodes(database: str, tmp_path: Path) -> Any:
    made = World(database, tmp_path, NODES, LOGS)
    yield made
    made.close()


@pytest.mark.parametrize("chunk_bytes", [SMALL, LARGE])
def test_reference_to_a_later_record_is_dangling(nodes: World, chunk_bytes: int) -> None:
    """In file order the parent is not there yet, whatever the waves are."""
    records = [{"code": "x", "parent_id": B}, {"code": "y"}, {"id": B, "code": "b"}, {"code": "z", "parent_id": B}]
    job = nodes.run("nodes", records, imports=nodes.imports(chunk_bytes=chunk_bytes))
    assert books(job) == (3, 0, 0, 1)
    assert codes(nodes) == {"y": None, "b": None, "z": B}


@pytest.mark.parametrize("chunk_bytes", [SMALL, LARGE])
def test_reference_by_a_name_that_a_later_record_changes(nodes: World, chunk_bytes: int) -> None:
    """The name still stands when the record is applied."""
    nodes.run("nodes", [{"id": A, "code": "a"}])
    records = [{"code": "x", "parent_code": "a"}, {"id": A, "code": "z"}]
    job = nodes.run("nodes", records, imports=nodes.imports(chunk_bytes=chunk_bytes))
    assert books(job) == (1, 1, 0, 0)
    assert codes(nodes) == {"x": A, "z": None}


def test_circle_of_references(nodes: World) -> None:
    """Each reference held when its record was applied, so all land."""
    job = nodes.run("nodes", [{"id": A, "code": "a"}, {"id": B, "code": "b", "parent_id": A}, {"id": A, "code": "a", "parent_id": B}])
    assert job.error is None
    assert books(job) == (2, 1, 0, 0)
    assert codes(nodes) == {"a": B, "b": A}


def test_fields_may_have_the_names_that_a_merge_uses(nodes: World) -> None:
    """`target` and `by_id` are values of the record, for new and stored rows alike."""
    nodes.run("nodes", [{"code": "a"}])
    job = nodes.run("nodes", [{"code": "a", "target": "x", "by_id": "1"}, {"code": "b", "target": "y", "by_id": "2"}])
    assert books(job) == (1, 1, 0, 0)
    rows = nodes.rows("SELECT target, by_id FROM nodes ORDER BY code")
    assert rows == [{"target": "x", "by_id": "1"}, {"target": "y", "by_id": "2"}]


@pytest.mark.parametrize("partitions", [1, 2])
def test_updates_of_one_row_by_id_and_by_key(world: World, partitions: int) -> None:
    """One record names the row by its id alone, the other by its key alone: both apply, in file order."""
    world.run("things", [{"id": A, "code": "a", "title": "zero"}])
    records = [{"id": A, "title": "one"}, {"code": "a", "note": "n"}, {"id": A, "title": "two"}]
    for _ in range(5):
        job = world.run("things", records, ImportOptions(mode=Mode.UPDATE), imports=world.imports(partitions=partitions))
        assert books(job)[:2] == (0, 3)
        assert world.rows("SELECT title, note FROM things") == [{"title": "two", "note": "n"}]


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True), ImportOptions(dry_run=True)])
def test_renames_seen_inside_one_transaction(world: World, options: ImportOptions) -> None:
    """What earlier waves of an atomic or rehearsed import did decides who is tied, as it does in any other."""
    records = [{"id": A, "code": c, "title": "t"} for c in ("a", "b", "b")] + [{"code": "a", "title": "new"}]
    records += [{"id": A, "code": "c", "title": "t"}, {"code": "b", "title": "new"}]
    job = world.run("things", records, options, imports=world.imports(chunk_bytes=60))
    assert books(job) == (3, 3, 1, 0)


def test_every_dangling_reference_is_named(world: World) -> None:
    """A record with two problems gives two errors."""
    nobody = str(UUID(int=9, version=4))
    job = world.run("comments", [{"article_id": nobody, "user_id": nobody, "body": "b"}])
    assert sorted(e["code"] for e in job.errors) == ["invalid_article_id", "invalid_user_id"]


@pytest.mark.parametrize("record", ['{"code": "a\\u0000", "title": "t"}', '{"code": "b", "title": "t", "released_at": "\\u0000"}'])
def test_nul_is_reported(world: World, record: str) -> None:
    """PostgreSQL's json takes no NUL, and the report shows one all the same."""
    job = world.run("things", [record, {"code": "c", "title": "t"}])
    assert job.error is None
    assert books(job) == (1, 0, 0, 1)
    assert "\u2400" in job.errors[0]["value"]


def test_atomic_import_whose_last_reply_is_lost(
    database: str, tmp_path: Path, proxied: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It landed, so it is COMPLETED, once; there is nothing to retry."""
    proxy = proxied(database)
    world = World(proxy.conninfo, tmp_path, NODES, LOGS)
    write_close = Street._write_close

    def then_lose(self: Street, *arguments: Any) -> None:
        write_close(self, *arguments)
        proxy.lose_commit(Loss.REPLY)

    monkeypatch.setattr(Street, "_write_close", then_lose)
    job = world.run("logs", [{"title": "t"}, {"title": "t"}], ImportOptions(atomic=True))
    assert proxy.lost.is_set()
    assert job.status is JobStatus.COMPLETED, job.error
    assert len(world.rows("SELECT FROM logs")) == 2
    world.close()


def test_rehearsal_of_an_atomic_import_that_stops(world: World) -> None:
    """Stopped early or at the end, nothing of it would have landed, and the books say so."""
    records = [{"code": c, "title": "t"} for c in "abcd"] + [{"code": "e", "title": "far too long a title"}]
    for stop in ({"on_error": OnError.ABORT}, {"max_errors": 0}, {}):
        found = [
            world.run("things", records, ImportOptions(atomic=True, dry_run=dry_run, **stop), imports=world.imports(chunk_bytes=60))
            for dry_run in (True, False)
        ]
        assert [(job.status, books(job)) for job in found] == [(JobStatus.FAILED, (0, 0, 0, 1))] * 2


def test_refused_wave_is_planned_and_reported_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dying between the two would make a later attempt merge the wave."""
    records = [{"code": "a", "title": "t"}, {"code": "b", "title": "far too long a title"}, {"code": "c", "title": "t"}]
    imports = world.imports()
    path = str(world.file(records))
    job = imports.create("things", path, read=ReadOptions(), options=ImportOptions(on_error=OnError.ABORT))

    def die(_self: Ledger, *_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "write_receipt", die)
    with pytest.raises(KeyboardInterrupt):
        imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    assert world.rows("SELECT FROM penstock.waves") == []


def test_cancel_of_a_job_whose_owner_is_dead(world: World) -> None:
    """Its lease still lives but its process does not: cancelled now, and not carried on by the next."""
    imports = world.imports()
    job = imports.create("things", str(world.file([{"code": "a", "title": "t"}])), read=ReadOptions(), options=ImportOptions())
    insert = "INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until)"
    world.execute(f"{insert} VALUES ('{job.job_id}', 1, 'elsewhere', 1, '1', now() + interval '1 second')")
    world.execute(f"UPDATE penstock.fences SET epoch = 1; UPDATE penstock.jobs SET status = 'PROCESSING' WHERE job_id = '{job.job_id}'")
    imports.cancel(job.job_id)
    finished = imports.run(job.job_id, progress=ignore, cancel=threading.Event())
    assert finished.status is JobStatus.CANCELLED
    assert world.rows("SELECT FROM things") == []
