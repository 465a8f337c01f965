-- name: create_job
-- A job and its fence, in one statement: neither exists without the other.
WITH job AS (
    INSERT INTO penstock.jobs (
        job_id, type, resource, options, reading, source, fingerprint, request_id, total_bytes, warnings, principal, queued
    )
    VALUES (
        %(job_id)s, %(type)s, %(resource)s, %(options)s, %(reading)s, %(source)s, %(fingerprint)s, %(request_id)s, %(total_bytes)s,
        %(warnings)s, %(principal)s, %(queued)s
    )
    RETURNING job_id
)
INSERT INTO penstock.fences (job_id) SELECT job_id FROM job

-- name: lock_job
-- Whoever changes a job's state holds this row. NO KEY: units of work that refer to the job (its rejected records, its waves) neither wait
-- for this nor keep it waiting; with them a process that stood still in one kept others from cancelling the job or taking it over.
SELECT status, attempts, attempts_excused, source, dialect, options, reading, resource, cancel_requested, queued, type
FROM penstock.jobs WHERE job_id = %(job_id)s FOR NO KEY UPDATE

-- name: claim_patience
-- Whoever holds the job's row holds it for a moment, or stands still.
SET LOCAL lock_timeout = '2s'

-- name: last_attempt
-- Who worked on it last, and whether its lease still lives, by the database's clock.
SELECT epoch, host, pid, process_started, ended_at IS NULL AND lease_until > now() AS leased,
    extract(epoch FROM lease_until - now())::float8 AS lease_seconds_left
FROM penstock.attempts WHERE job_id = %(job_id)s ORDER BY epoch DESC LIMIT 1

-- name: raise_fence
-- A new epoch. Waits until no transaction of the attempt before holds the fence, so that what it committed is seen and what it did not is gone.
UPDATE penstock.fences SET epoch = epoch + 1 WHERE job_id = %(job_id)s RETURNING epoch

-- name: end_sessions
-- Connections of attempts before this one. One that was stopped in the middle of a COPY is not idle, so that no time-out but that of the
-- statement would free its locks. Only sessions of the same role can be ended; others are left to their time-outs.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE starts_with(application_name, %(prefix)s) AND usename = current_user AND pid <> pg_backend_pid()

-- name: start_attempt
-- Counted at the claim, so that attempts that crash count too.
WITH attempt AS (
    INSERT INTO penstock.attempts (job_id, epoch, host, pid, process_started, lease_until)
    VALUES (%(job_id)s, %(epoch)s, %(host)s, %(pid)s, %(process_started)s, now() + %(lease_seconds)s * interval '1 second')
)
UPDATE penstock.jobs
SET status = 'PROCESSING', attempts = attempts + 1, started_at = coalesce(started_at, now()), updated_at = now(),
    finished_at = NULL, failure = NULL
WHERE job_id = %(job_id)s

-- name: last_failure
-- Why the last attempt that could say so ended.
SELECT failure FROM penstock.attempts WHERE job_id = %(job_id)s AND failure IS NOT NULL ORDER BY epoch DESC LIMIT 1

-- name: leave_attempt
-- The attempt ends without the job: its lease is over, so that the next one need not wait. No row: it was over already.
UPDATE penstock.attempts a SET ended_at = now(), lease_until = now(), outcome = %(outcome)s, failure = %(failure)s
FROM penstock.fences f
WHERE a.job_id = %(job_id)s AND a.epoch = %(epoch)s AND a.ended_at IS NULL AND f.job_id = a.job_id AND f.epoch = a.epoch

-- name: excuse_attempt
-- A hand-over is nobody's fault. Back comes whether a queue hands the job out.
UPDATE penstock.jobs SET attempts_excused = attempts_excused + 1, updated_at = now() WHERE job_id = %(job_id)s RETURNING queued, type

-- name: end_attempts_before
-- The attempts that lost their lease, for whoever reads the history.
UPDATE penstock.attempts SET ended_at = now(), outcome = 'lost' WHERE job_id = %(job_id)s AND epoch < %(epoch)s AND ended_at IS NULL

-- name: end_all_attempts
UPDATE penstock.attempts SET ended_at = now(), outcome = 'lost' WHERE job_id = %(job_id)s AND ended_at IS NULL

-- name: renew_lease
-- No row: another attempt owns the job.
UPDATE penstock.attempts a SET lease_until = now() + %(lease_seconds)s * interval '1 second'
FROM penstock.fences f, penstock.jobs j
WHERE a.job_id = %(job_id)s AND a.epoch = %(epoch)s AND a.ended_at IS NULL AND f.job_id = a.job_id AND f.epoch = a.epoch AND j.job_id = a.job_id
RETURNING j.cancel_requested

-- name: hold_fence
-- First statement of every unit of work: no row means that this attempt may not write any more.
SELECT now() FROM penstock.fences WHERE job_id = %(job_id)s AND epoch = %(epoch)s FOR SHARE

-- name: durable_end
-- This commit, and so every one before it, is on disk (and wherever else the server's settings ask) before anybody is told of it.
SET LOCAL synchronous_commit TO DEFAULT

-- name: close_books
-- The end of a job, by its attempt, or by whoever cancels one that nobody works on. The counters come from the receipts and the rejected
-- records on file; the table's CHECK refuses books that do not balance. Of an export that ends here nothing is left, however far it came:
-- what it would have held stands, if that was counted.
-- From here on the job's files are kept for so many hours and no longer; an upload as long as its link may bring another, which would
-- have no row then.
WITH kept AS (
    UPDATE penstock.files f
    SET expires_at = greatest(now() + %(file_hours)s * interval '1 hour', CASE WHEN f.upload_id IS NOT NULL THEN f.expires_at END)
    FROM penstock.jobs j
    WHERE j.job_id = %(job_id)s AND j.finished_at IS NULL AND f.kind = 'SOURCE' AND (f.job_id = j.job_id OR f.key = j.source ->> 'key')
), given_up AS (
    -- What an export that came to nothing had written, whichever attempt it was.
    UPDATE penstock.files f SET expires_at = now()
    FROM penstock.jobs j
    WHERE j.job_id = %(job_id)s AND j.finished_at IS NULL AND j.type = 'EXPORT' AND f.job_id = j.job_id
)
UPDATE penstock.jobs j
SET status = %(status)s, failure = %(failure)s, finished_at = now(), updated_at = now(),
    total_rows = CASE WHEN j.type = 'EXPORT' THEN j.total_rows ELSE coalesce(%(total_rows)s, b.processed) END,
    processed_rows = b.processed, imported_rows = b.imported, updated_rows = b.updated, unchanged_rows = b.unchanged,
    failed_rows = b.rejected,
    reported_rows = (SELECT count(*) FROM penstock.rejected r WHERE r.job_id = j.job_id),
    processed_bytes = CASE WHEN j.type = 'EXPORT' THEN 0 WHEN %(status)s = 'COMPLETED' THEN j.total_bytes ELSE j.processed_bytes END,
    warnings = coalesce(%(warnings)s::jsonb, j.warnings), error_summary = coalesce(%(error_summary)s::jsonb, j.error_summary)
FROM (
    SELECT coalesce(sum(records), 0) AS processed, coalesce(sum(imported), 0) AS imported, coalesce(sum(updated), 0) AS updated,
        coalesce(sum(unchanged), 0) AS unchanged, coalesce(sum(rejected), 0) AS rejected
    FROM penstock.receipts WHERE job_id = %(job_id)s
) b
WHERE j.job_id = %(job_id)s AND j.finished_at IS NULL

-- name: end_attempt
UPDATE penstock.attempts SET ended_at = now(), outcome = %(outcome)s WHERE job_id = %(job_id)s AND epoch = %(epoch)s

-- name: get_job
SELECT * FROM penstock.jobs WHERE job_id = %(job_id)s

-- name: find_jobs
-- By the first characters of an id, as people type them.
SELECT job_id FROM penstock.jobs WHERE job_id >= %(low)s AND job_id <= %(high)s ORDER BY job_id LIMIT 2

-- name: list_jobs
SELECT * FROM penstock.jobs
WHERE (%(type)s::text IS NULL OR type = %(type)s) AND (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(resource)s::text IS NULL OR resource = %(resource)s)
    AND (%(before)s::timestamptz IS NULL OR (created_at, job_id) < (%(before)s, %(before_id)s::uuid))
ORDER BY created_at DESC, job_id DESC LIMIT %(limit)s

-- name: request_cancel
-- A job that nobody works on is cancelled at once; the attempt that works on one sees the wish at its next heartbeat.
UPDATE penstock.jobs SET cancel_requested = true, updated_at = now() WHERE job_id = %(job_id)s

-- name: reopen_job
-- The report is made anew when the job has ended anew.
UPDATE penstock.jobs
SET status = 'PENDING', finished_at = NULL, failure = NULL, cancel_requested = false, total_rows = NULL, report = NULL, updated_at = now()
WHERE job_id = %(job_id)s

-- name: queue_again
-- Somebody wants it: the attempts so far do not count towards the most, and a worker carries it from now on.
UPDATE penstock.jobs SET attempts_excused = attempts, queued = true WHERE job_id = %(job_id)s

-- name: changes
-- For whoever watches jobs: which of them moved.
SELECT job_id, updated_at FROM penstock.jobs WHERE job_id = ANY(%(job_ids)s::uuid[])
