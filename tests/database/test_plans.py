"""What is asked often is answered by indexes, and by few pages of them, beside 50,000 jobs, files and keys."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from penstock.database.queries import load
from penstock.queue.service import QUEUE_NAME
from tests.support.postgres import TestServer
from tests.workers.site import Site

LEDGER = load("penstock.imports", "ledger.sql") | load("penstock.lifecycle", "jobs.sql")
UPKEEP = load("penstock.workers", "upkeep.sql")
QUEUE, KEYS, FILES = load("penstock.queue", "queue.sql"), load("penstock.idempotency", "keys.sql"), load("penstock.intake", "files.sql")
# 1,000 unfinished jobs, the oldest ones; 5,000 with rejected records; seldom ones of each kind.
MANY = """
INSERT INTO penstock.jobs (
    job_id, type, resource, status, options, reading, source, fingerprint, queued, failure, attempts,
    total_rows, processed_rows, failed_rows, reported_rows, report, created_at, finished_at
)
SELECT md5('job' || n)::uuid, 'IMPORT', CASE WHEN n % 1000 = 7 THEN 'owners' ELSE 'things' END, status, '{"dry_run": false}', '{}',
    jsonb_build_object('kind', 'object', 'key', 'uploads/' || n, 'name', 'a.csv'), md5((n / 2)::text), true,
    CASE WHEN status = 'FAILED' THEN '{}'::jsonb END, 1, bad, coalesce(bad, 0), coalesce(bad, 0), coalesce(bad, 0),
    CASE WHEN bad > 0 THEN jsonb_build_object('key', 'reports/' || n) END, now() - n * interval '10 s',
    CASE WHEN bad IS NOT NULL THEN now() - n * interval '10 s' END
FROM (
    SELECT n,
        CASE WHEN n > 49500 THEN 'PENDING' WHEN n > 49000 THEN 'PROCESSING' WHEN n % 500 = 3 THEN 'CANCELLED' WHEN n % 10 = 1 THEN 'FAILED'
            ELSE 'COMPLETED' END AS status,
        CASE WHEN n > 49000 THEN NULL WHEN n % 10 = 0 THEN 1 ELSE 0 END AS bad
    FROM generate_series(1, 50000) n
) made;
INSERT INTO penstock.fences (job_id, epoch) SELECT job_id, 1 FROM penstock.jobs;
INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until, ended_at)
SELECT job_id, 1, 'h', 1, '1', now() - interval '1 hour', finished_at FROM penstock.jobs;
INSERT INTO penstock.waves SELECT job_id, 0, 0, 1, 1, 10, 2, 2, 1, '{}', 10 FROM penstock.jobs WHERE finished_at IS NOT NULL;
INSERT INTO penstock.receipts SELECT job_id, 0, 0, 1, failed_rows, 0, 0, 0, failed_rows, '[]'
FROM penstock.jobs WHERE finished_at IS NOT NULL;
INSERT INTO penstock.rejected SELECT job_id, 1, 1, 'raw', '[]' FROM penstock.jobs WHERE reported_rows > 0;
INSERT INTO penstock.files (key, kind, name, job_id, upload_id, expires_at)
SELECT source ->> 'key', 'SOURCE', 'a.csv', job_id, job_id,
    now() + CASE WHEN finished_at IS NULL OR reported_rows > 0 THEN interval '-1 hour' ELSE interval '1 day' END
FROM penstock.jobs;
INSERT INTO penstock.idempotency_keys (principal, route, key, parameters, token, lease_until, job_id, created_at)
SELECT 'a', 'r', job_id, '', job_id, created_at, job_id, created_at FROM penstock.jobs;
INSERT INTO penstock.procrastinate_workers DEFAULT VALUES;
INSERT INTO penstock.procrastinate_jobs (queue_name, task_name, args)
SELECT 'penstock', 'penstock.run', jsonb_build_object('job_id', job_id, 'version', 1) FROM penstock.jobs WHERE status = 'PENDING';
ANALYZE;
"""
BIG = {"jobs", "fences", "attempts", "waves", "receipts", "rejected", "files", "idempotency_keys"}
JOB, PAGE = "66666666-6666-6666-6666-666666666666", 51
BYTES = "c4ca4238a0b923820dcc509a6f75849b"  # two jobs have them
A_JOB = {"job_id": JOB}


@pytest.fixture(scope="module")
def crowded(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[psycopg.Connection[Any]]:
    with postgres.fresh_database() as conninfo:
        site = Site(conninfo, tmp_path_factory.mktemp("plans"))
        site.close()
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
            connection.execute(MANY.encode())
            yield connection


def listing(type_: str | None, status: str | None, resource: str | None, before: str | None) -> Mapping[str, Any]:
    return {"type": type_, "status": status, "resource": resource, "before": before, "before_id": JOB, "limit": PAGE}


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def explained(connection: psycopg.Connection[Any], statement: bytes, values: Mapping[str, Any]) -> tuple[set[str], int, str]:
    """Tables that are read from end to end, pages looked at, the plan; what the statement did is taken back."""
    with connection.transaction(force_rollback=True):
        row = connection.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    whole = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
    return whole & BIG, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], json.dumps(plan, indent=1)


@pytest.mark.parametrize("depth", [None, 100, 49_300])
@pytest.mark.parametrize("status", [None, "PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("resource", [None, "things", "owners", "nothing"])
@pytest.mark.parametrize("type_", [None, "IMPORT", "EXPORT"])
def test_a_page_of_jobs(
    crowded: psycopg.Connection[Any], depth: int | None, type_: str | None, status: str | None, resource: str | None
) -> None:
    """Of any status and resource, from any cursor on: in the order of an index, which holds little else."""
    row = crowded.execute("SELECT (now() - %s::integer * interval '10 s')::text", [depth]).fetchone()
    assert row is not None
    whole, pages, plan = explained(crowded, LEDGER["list_jobs"], listing(type_, status, resource, row[0]))
    assert not whole, plan
    assert '"Sort"' not in plan, plan
    assert pages < 250, plan


ASKED: dict[str, tuple[bytes, Mapping[str, Any], int]] = {
    "get_job": (LEDGER["get_job"], A_JOB, 10),
    "find_jobs": (LEDGER["find_jobs"], {"low": "66666666-0000-0000-0000-000000000000", "high": JOB}, 10),
    "unfinished_job": (
        LEDGER["unfinished_job"], {"fingerprint": BYTES, "resource": "things", "options": "{}", "reading": "{}"},
        20,
    ),
    "same_bytes": (LEDGER["same_bytes"], {"fingerprint": BYTES, "resource": "things", "job_id": JOB}, 20),
    "changes": (LEDGER["changes"], {"job_ids": [f"{n:08x}-0000-0000-0000-000000000000" for n in range(50)]}, 300),
    "totals": (LEDGER["totals"], A_JOB, 10),
    "lock_job": (LEDGER["lock_job"], A_JOB, 10),
    "last_attempt": (LEDGER["last_attempt"], A_JOB, 10),
    "raise_fence": (LEDGER["raise_fence"], A_JOB, 20),
    "renew_lease": (LEDGER["renew_lease"], {**A_JOB, "epoch": 1, "lease_seconds": 30}, 30),
    "rejected_page": (LEDGER["rejected_page"], {**A_JOB, "after": 0, "limit": 100, "bytes": 1000}, 10),
    "dropped": (UPKEEP["dropped"], {"host": "here", "pause_seconds": 5}, 12_000),
    "unpacked": (UPKEEP["unpacked"], {"grace_seconds": 30, "file_hours": 100_000}, 20),
    "expired_files": (UPKEEP["expired_files"], {"limit": 20}, 12_000),
    "old_job": (UPKEEP["old_job"], {"job_days": 1}, 20),
    "forget_keys": (UPKEEP["forget_keys"], {}, 12_000),
    "forget_job": (UPKEEP["forget_job"], A_JOB, 20),
    "expire_files_of": (UPKEEP["expire_files_of"], A_JOB, 20),
    "forget_reports": (UPKEEP["forget_reports"], {"keys": ["uploads/1"]}, 20),
    "tidy_entries": (QUEUE["tidy_entries"], {"queue": QUEUE_NAME, "worker_seconds": 60}, 2_000),
    "find_key": (KEYS["find_key"], {"principal": "a", "route": "r", "key": JOB}, 10),
    "find_upload": (FILES["find_upload"], {"upload_id": JOB}, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_no_table_is_read_from_end_to_end(crowded: psycopg.Connection[Any], name: str) -> None:
    """Nor are many pages of an index."""
    statement, values, most = ASKED[name]
    whole, pages, plan = explained(crowded, statement, values)
    assert not whole, plan
    assert pages < most, plan


def test_taking_an_entry_looks_at_little(crowded: psycopg.Connection[Any]) -> None:
    """Beside five hundred that wait."""
    statement = b"SELECT penstock.procrastinate_fetch_job_v2(ARRAY['penstock'], (SELECT max(id) FROM penstock.procrastinate_workers))"
    _, pages, plan = explained(crowded, statement, {})
    assert pages < 2_000, plan
