-- name: same_bytes
-- Earlier finished jobs of the same bytes, for the warning that they were imported before.
SELECT job_id, finished_at FROM penstock.jobs
WHERE fingerprint = %(fingerprint)s AND resource = %(resource)s AND status = 'COMPLETED' AND NOT (options ->> 'dry_run')::boolean
    AND job_id <> %(job_id)s
ORDER BY created_at DESC LIMIT 1

-- name: unfinished_job
-- The newest job of the same bytes and wishes that somebody may go on with. Queued ones are a worker's business.
SELECT job_id FROM penstock.jobs
WHERE fingerprint = %(fingerprint)s AND resource = %(resource)s AND options = %(options)s
    AND reading - 'chunk_bytes' = %(reading)s::jsonb - 'chunk_bytes'
    AND status IN ('PENDING', 'PROCESSING', 'CANCELLED') AND NOT queued
ORDER BY created_at DESC LIMIT 1

-- name: note_file
-- Before its first byte, so that what a crash leaves in storage is found by its row. After an outage the same attempt notes it again.
INSERT INTO penstock.files (key, kind, name, job_id, expires_at)
VALUES (%(key)s, 'SOURCE', %(name)s, %(job_id)s, now() + interval '1 day')
ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at

-- name: source
SELECT source FROM penstock.jobs WHERE job_id = %(job_id)s

-- name: settle_file
UPDATE penstock.files SET size = %(size)s, sha256 = %(sha256)s WHERE key = %(key)s

-- name: store_source
-- What was fetched is the job's file from now on.
UPDATE penstock.jobs
SET source = %(source)s, fingerprint = %(fingerprint)s, total_bytes = %(total_bytes)s, warnings = warnings || %(warnings)s::jsonb, updated_at = now()
WHERE job_id = %(job_id)s

-- name: forget_work
-- For imports that land as a whole or not at all: an attempt starts from nothing.
DELETE FROM penstock.waves WHERE job_id = %(job_id)s

-- name: forget_rejected
DELETE FROM penstock.rejected WHERE job_id = %(job_id)s

-- name: void_receipts
UPDATE penstock.receipts SET records = rejected, imported = 0, updated = 0, unchanged = 0 WHERE job_id = %(job_id)s

-- name: forget_wave
-- A wave that was refused as a whole is done anew by the next attempt.
DELETE FROM penstock.waves WHERE job_id = %(job_id)s AND wave = %(wave)s

-- name: forget_rejected_of_wave
DELETE FROM penstock.rejected WHERE job_id = %(job_id)s AND "row" >= %(start_row)s AND "row" < %(end_row)s

-- name: store_dialect
UPDATE penstock.jobs SET dialect = %(dialect)s, warnings = %(warnings)s, updated_at = now() WHERE job_id = %(job_id)s

-- name: warnings
SELECT warnings FROM penstock.jobs WHERE job_id = %(job_id)s

-- name: plan_wave
-- The tied records of a plan may grow once, when partitions that went straight in met stored rows; a wave is never cut otherwise.
INSERT INTO penstock.waves (job_id, wave, start_offset, start_row, start_line, end_offset, end_row, end_line, partitions, tied, processed_bytes)
VALUES (%(job_id)s, %(wave)s, %(start_offset)s, %(start_row)s, %(start_line)s, %(end_offset)s, %(end_row)s, %(end_line)s,
    %(partitions)s, %(tied)s, %(processed_bytes)s)
ON CONFLICT (job_id, wave) DO UPDATE SET tied = excluded.tied

-- name: last_wave
SELECT * FROM penstock.waves WHERE job_id = %(job_id)s ORDER BY wave DESC LIMIT 1

-- name: receipts_of_wave
SELECT partition FROM penstock.receipts WHERE job_id = %(job_id)s AND wave = %(wave)s

-- name: write_receipt
INSERT INTO penstock.receipts (job_id, wave, partition, epoch, records, imported, updated, unchanged, rejected, summary)
VALUES (%(job_id)s, %(wave)s, %(partition)s, %(epoch)s, %(records)s, %(imported)s, %(updated)s, %(unchanged)s, %(rejected)s, %(summary)s)

-- name: copy_rejected
COPY penstock.rejected (job_id, "row", line, raw, problems) FROM STDIN

-- name: standing
-- How far a job is, for whoever lost its connections.
SELECT finished_at IS NOT NULL AS finished, (SELECT count(*) FROM penstock.receipts r WHERE r.job_id = j.job_id) AS receipts
FROM penstock.jobs j JOIN penstock.fences f USING (job_id) WHERE job_id = %(job_id)s AND f.epoch = %(epoch)s

-- name: totals
-- The books of a job, from its receipts.
SELECT coalesce(sum(records), 0)::bigint AS processed_rows, coalesce(sum(imported), 0)::bigint AS imported_rows,
    coalesce(sum(updated), 0)::bigint AS updated_rows, coalesce(sum(unchanged), 0)::bigint AS unchanged_rows,
    coalesce(sum(rejected), 0)::bigint AS failed_rows
FROM penstock.receipts WHERE job_id = %(job_id)s

-- name: summaries
SELECT summary FROM penstock.receipts WHERE job_id = %(job_id)s AND summary <> '[]' ORDER BY wave, partition

-- name: report_progress
-- Brings back the wish to cancel.
UPDATE penstock.jobs
SET processed_rows = %(processed_rows)s, imported_rows = %(imported_rows)s, updated_rows = %(updated_rows)s, unchanged_rows = %(unchanged_rows)s,
    failed_rows = %(failed_rows)s, processed_bytes = %(processed_bytes)s, error_summary = %(error_summary)s, warnings = %(warnings)s,
    updated_at = now()
WHERE job_id = %(job_id)s AND EXISTS (SELECT FROM penstock.fences WHERE job_id = %(job_id)s AND epoch = %(epoch)s)
RETURNING cancel_requested

-- name: rejected_page
-- A stretch of the report, in row order: at most `limit` records and, but for the first, at most `bytes` of them, since one may have 16 MiB.
SELECT "row", line, raw, problems
FROM (
    SELECT p.*, sum(octet_length(raw)) OVER (ORDER BY "row" ROWS UNBOUNDED PRECEDING) - octet_length(raw) AS before
    FROM (
        SELECT "row", line, raw, problems FROM penstock.rejected WHERE job_id = %(job_id)s AND "row" > %(after)s ORDER BY "row" LIMIT %(limit)s
    ) p
) sized
WHERE before < %(bytes)s ORDER BY "row"
