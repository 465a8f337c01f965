"""What upkeep asks every few seconds is answered by indexes, however many jobs have ended."""

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.database.queries import load
from tests.workers.site import Site

UPKEEP, QUEUE = load("penstock.workers", "upkeep.sql"), load("penstock.queue", "queue.sql")
# A job that is removed takes its keys with it by this statement of PostgreSQL's own.
CASCADE = b"DELETE FROM ONLY penstock.idempotency_keys WHERE job_id = '00000000-0000-0000-0000-000000000000'"
MANY = """
INSERT INTO penstock.jobs (
    job_id, type, resource, status, options, reading, source, fingerprint, queued, finished_at, total_rows
)
SELECT gen_random_uuid(), 'IMPORT', 'things', CASE WHEN n > 500 THEN 'COMPLETED' ELSE 'PENDING' END, '{}', '{}',
    jsonb_build_object('kind', 'object', 'key', 'uploads/' || n, 'name', 'a.csv'), md5(n::text), true,
    CASE WHEN n > 500 THEN now() - n * interval '1 second' END, CASE WHEN n > 500 THEN 0 END
FROM generate_series(1, 20000) n;
INSERT INTO penstock.files (key, kind, name, job_id, expires_at)
SELECT source ->> 'key', 'SOURCE', 'a.csv', job_id, now() - interval '1 hour' FROM penstock.jobs;
INSERT INTO penstock.idempotency_keys (principal, route, key, parameters, token, lease_until, job_id)
SELECT 'a', 'r', job_id, '', job_id, now(), job_id FROM penstock.jobs;
INSERT INTO penstock.procrastinate_workers DEFAULT VALUES;
INSERT INTO penstock.procrastinate_jobs (queue_name, task_name, args, status, worker_id)
SELECT 'penstock', 'penstock.run', jsonb_build_object('job_id', job_id, 'version', 1), 'doing', w.id
FROM (SELECT job_id FROM penstock.jobs WHERE finished_at IS NULL LIMIT 10) j, penstock.procrastinate_workers w;
ANALYZE penstock.jobs, penstock.files, penstock.idempotency_keys, penstock.procrastinate_jobs, penstock.procrastinate_workers;
"""


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (UPKEEP["dropped"], {"host": "here", "pause_seconds": 5}),
        (UPKEEP["unpacked"], {"grace_seconds": 30, "file_hours": 1}),
        (UPKEEP["expired_files"], {"limit": 20}),
        (UPKEEP["old_job"], {"job_days": 1}),
        (QUEUE["tidy_entries"], {"queue": "penstock", "worker_seconds": 60}),
        (CASCADE, {}),
    ],
    ids=["dropped", "unpacked", "expired_files", "old_job", "tidy_entries", "cascade"],
)
def test_no_statement_reads_all_jobs(site: Site, statement: bytes, values: Mapping[str, Any]) -> None:
    """Nor all keys, nor every unfinished job for each file."""
    with site.world.database.connect(autocommit=True) as connection:
        connection.execute(MANY.encode())
        plan = "\n".join(line for (line,) in connection.execute(b"EXPLAIN " + statement, values))
    assert "Seq Scan on jobs" not in plan, plan
    assert "Seq Scan on idempotency_keys" not in plan, plan
    assert "Join Filter: ((j.job_id" not in plan, plan


def test_entries_that_are_no_ids_are_left(site: Site) -> None:
    """Those of another version may name their jobs in another way."""
    job = site.job(1)
    site.application.imports.cancel(job.job_id)
    site.world.execute(
        "INSERT INTO penstock.procrastinate_workers DEFAULT VALUES;"
        "UPDATE penstock.procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM penstock.procrastinate_workers);"
        "INSERT INTO penstock.procrastinate_jobs (queue_name, task_name, args, status, worker_id)"
        " SELECT 'penstock', 'another', '{\"job_id\": \"not-one\"}', 'doing', id FROM penstock.procrastinate_workers"
    )
    with site.world.database.connect(autocommit=True) as connection:
        assert site.application.queue.tidy(connection) == 1
    assert site.world.rows("SELECT task_name FROM penstock.procrastinate_jobs") == [{"task_name": "another"}]
