-- name: note_file
-- Before its first byte, so that what a crash leaves in storage is found by its row. An attempt notes it again when it is whole: then it is
-- certain that the row stands. Housekeeping goes by the row, and never touches that of an unfinished job.
INSERT INTO penstock.files (key, kind, name, resource, job_id, expires_at)
VALUES (%(key)s, 'EXPORT', %(name)s, %(resource)s, %(job_id)s, now() + interval '1 day')
ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at

-- name: report_progress
-- Brings back the wish to cancel. The transaction holds the fence. Where nothing has moved nothing is written: an export may wait for hours,
-- and who follows the job hears of every change.
WITH told AS (
    UPDATE penstock.jobs
    SET total_rows = %(total_rows)s, processed_rows = %(processed_rows)s, processed_bytes = %(processed_bytes)s, updated_at = now()
    WHERE job_id = %(job_id)s AND finished_at IS NULL
        AND (total_rows, processed_rows, processed_bytes)
            IS DISTINCT FROM (%(total_rows)s::bigint, %(processed_rows)s::bigint, %(processed_bytes)s::bigint)
)
SELECT cancel_requested FROM penstock.jobs WHERE job_id = %(job_id)s

-- name: complete
-- The one statement by which a file becomes the job's: kept for so many hours from now, while what earlier attempts wrote is past its time.
-- The job's row is held, and unfinished. No file without its row: then the statement changes nothing.
WITH kept AS (
    UPDATE penstock.files
    SET size = %(size)s, sha256 = %(sha256)s, expires_at = now() + %(file_hours)s * interval '1 hour'
    WHERE key = %(key)s
    RETURNING expires_at
), left_over AS (
    UPDATE penstock.files SET expires_at = now() WHERE job_id = %(job_id)s AND kind = 'EXPORT' AND key <> %(key)s
)
UPDATE penstock.jobs
SET status = 'COMPLETED', failure = NULL, finished_at = now(), updated_at = now(), total_rows = %(total_rows)s,
    processed_rows = %(processed_rows)s, total_bytes = %(size)s, processed_bytes = %(size)s,
    result = jsonb_build_object('key', %(key)s::text, 'size', %(size)s::bigint, 'sha256', %(sha256)s::text, 'expires_at', kept.expires_at)
FROM kept
WHERE job_id = %(job_id)s

-- name: is_completed
-- Whether the job has this very file: a COMMIT whose reply was lost took effect.
SELECT FROM penstock.jobs WHERE job_id = %(job_id)s AND result ->> 'key' = %(key)s

-- name: give_up_file
-- Past its time: should its object not go now, housekeeping comes for it.
UPDATE penstock.files SET expires_at = now() WHERE key = %(key)s

-- name: forget_file
-- One that was given up, when its object is gone.
DELETE FROM penstock.files WHERE key = %(key)s
