-- name: wake
-- One entry for each job. The function finds its tables by a search_path of its own (see `pin_functions`), so that the caller's stays as it is.
SELECT penstock.procrastinate_defer_jobs_v1(
    ARRAY(
        SELECT ROW(
            %(queue)s, %(task)s, 0, NULL, NULL, jsonb_build_object('job_id', job_id, 'version', %(version)s::integer), NULL
        )::penstock.procrastinate_job_to_defer_v1
        FROM unnest(%(job_ids)s::text[]) AS job_id
    )
)

-- name: applied
SELECT name FROM penstock.queue_migrations

-- name: is_installed
SELECT to_regclass('penstock.procrastinate_jobs') IS NOT NULL

-- name: note
INSERT INTO penstock.queue_migrations (name) SELECT unnest(%(names)s::text[]) ON CONFLICT DO NOTHING

-- name: functions
-- What Procrastinate made, for `pin_functions`: its functions name their tables without a schema.
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'penstock'::regnamespace AND starts_with(p.proname, 'procrastinate_')
    AND NOT coalesce(p.proconfig @> ARRAY['search_path=penstock, pg_temp'], false)

-- name: tidy_entries
-- Entries that tell nothing: ended ones; those of workers that are gone; those of jobs that have ended (their worker lost the connection
-- before it could say so). What becomes of an unfinished job is the ledger's to say.
DELETE FROM penstock.procrastinate_jobs
WHERE id IN (
    SELECT q.id FROM penstock.procrastinate_jobs q LEFT JOIN penstock.procrastinate_workers w ON w.id = q.worker_id
    WHERE q.queue_name = %(queue)s AND (
        q.status NOT IN ('todo', 'doing')
        OR q.status = 'doing' AND (
            w.id IS NULL
            OR w.last_heartbeat < now() - %(worker_seconds)s * interval '1 second'
            OR EXISTS (
                -- The id as uuid, so that the key's index finds the job; what is no id is another version's business.
                SELECT FROM penstock.jobs j
                WHERE j.finished_at IS NOT NULL AND j.job_id = CASE
                    WHEN q.args ->> 'job_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN (q.args ->> 'job_id')::uuid
                END
            )
        )
    )
    LIMIT 1000
    FOR UPDATE OF q SKIP LOCKED
)

-- name: tidy_workers
DELETE FROM penstock.procrastinate_workers WHERE last_heartbeat < now() - %(worker_seconds)s * interval '1 second'
