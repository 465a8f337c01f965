-- name: try_turn
-- One worker at a time; the others have nothing to do meanwhile.
SELECT pg_try_advisory_xact_lock(%(turn)s)

-- name: dropped
-- Queued jobs that nobody works on and that no entry of the queue will bring to anybody. An attempt that could say why it ended is not
-- followed at once: what ended it may last. One of this machine whose lease lives is shown too: its process may be gone.
SELECT j.job_id, j.type, a.host, a.pid, a.process_started, coalesce(a.ended_at IS NULL AND a.lease_until > now(), false) AS leased
FROM penstock.jobs j
LEFT JOIN LATERAL (SELECT * FROM penstock.attempts t WHERE t.job_id = j.job_id ORDER BY t.epoch DESC LIMIT 1) a ON true
WHERE j.finished_at IS NULL AND j.queued AND j.type IN ('IMPORT', 'EXPORT')
    AND (a.job_id IS NULL OR a.ended_at IS NOT NULL OR a.lease_until <= now() OR a.host = %(host)s)
    AND (a.failure IS NULL
        OR a.ended_at + least(%(pause_seconds)s * 2 ^ least(j.attempts - j.attempts_excused, 10), 900) * interval '1 second' < now())
    AND NOT EXISTS (
        SELECT FROM penstock.procrastinate_jobs q
        WHERE q.status = 'todo' AND q.args ->> 'job_id' = j.job_id::text
            AND (q.scheduled_at IS NULL OR q.scheduled_at < now() + interval '5 minutes')
    )
ORDER BY j.created_at
LIMIT 1000

-- name: unpacked
-- Ended jobs whose report is not in storage; not those that a worker is packing at this moment, nor those past their files' time.
SELECT job_id FROM penstock.jobs
WHERE queued AND report IS NULL AND reported_rows > 0
    AND finished_at < now() - %(grace_seconds)s * interval '1 second' AND finished_at > now() - %(file_hours)s * interval '1 hour'
ORDER BY finished_at LIMIT 20

-- name: to_pack
SELECT j.job_id, f.epoch, j.dialect, j.finished_at + %(file_hours)s * interval '1 hour' > now() AS wanted
FROM penstock.jobs j JOIN penstock.fences f USING (job_id)
WHERE j.job_id = %(job_id)s AND j.queued AND j.finished_at IS NOT NULL AND j.reported_rows > 0 AND j.report IS NULL

-- name: note_report
-- Before its first byte. Packing that died is done again under the same key.
INSERT INTO penstock.files (key, kind, name, job_id, expires_at)
VALUES (%(key)s, 'REPORT', 'errors.ndjson', %(job_id)s, now() + interval '1 day')
ON CONFLICT (key) DO UPDATE SET expires_at = greatest(files.expires_at, excluded.expires_at)

-- name: publish_report
-- In one statement with the time that it is kept. No row: the job goes on again, and its report will be another.
WITH job AS (
    UPDATE penstock.jobs j SET report = %(report)s
    FROM penstock.fences f
    WHERE j.job_id = %(job_id)s AND f.job_id = j.job_id AND f.epoch = %(epoch)s AND j.finished_at IS NOT NULL
    RETURNING j.finished_at
)
UPDATE penstock.files SET size = %(size)s, sha256 = %(sha256)s, expires_at = job.finished_at + %(file_hours)s * interval '1 hour'
FROM job WHERE key = %(key)s

-- name: expired_files
-- Held until they are gone, so that no job can be given one meanwhile. Two questions, each with an index of its own: with one OR every
-- unfinished job is looked at for every file.
SELECT f.key FROM penstock.files f
WHERE f.expires_at < now()
    AND NOT EXISTS (SELECT FROM penstock.jobs j WHERE j.finished_at IS NULL AND j.job_id = f.job_id)
    AND NOT EXISTS (SELECT FROM penstock.jobs j WHERE j.finished_at IS NULL AND j.source ->> 'key' = f.key)
ORDER BY f.expires_at LIMIT %(limit)s
FOR UPDATE OF f SKIP LOCKED

-- name: forget_reports
-- Nobody is to be sent to what is not there any more.
UPDATE penstock.jobs j SET report = NULL
FROM penstock.files f
WHERE f.key = ANY(%(keys)s) AND f.kind = 'REPORT' AND j.job_id = f.job_id AND j.report ->> 'key' = f.key

-- name: put_off_file
-- Storage does not part with it now; the files behind it must not wait for that.
UPDATE penstock.files SET expires_at = now() + interval '1 hour' WHERE key = %(key)s

-- name: forget_files
DELETE FROM penstock.files WHERE key = ANY(%(keys)s)

-- name: old_job
-- One at a time: it may have millions of rejected records, which go with it.
SELECT job_id FROM penstock.jobs WHERE finished_at < now() - %(job_days)s * interval '1 day' ORDER BY finished_at LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: expire_files_of
-- Uploads have their own time, which their links may outlive the job by.
UPDATE penstock.files SET expires_at = least(expires_at, now()) WHERE job_id = %(job_id)s AND upload_id IS NULL

-- name: forget_job
DELETE FROM penstock.jobs WHERE job_id = %(job_id)s

-- name: forget_keys
-- By their places, which stay theirs while they are held: by their values all keys are read for a thousand of them.
DELETE FROM penstock.idempotency_keys
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM penstock.idempotency_keys
    WHERE created_at < now() - interval '72 hours' AND lease_until < now()
    ORDER BY created_at LIMIT 1000 FOR UPDATE SKIP LOCKED
))

-- name: event_id_pages
SELECT pg_relation_size('penstock.event_ids') / current_setting('block_size')::bigint

-- name: forget_event_ids
-- Page by page: whoever asks for the oldest again and again passes by all that were removed before, and an index by age costs every event.
DELETE FROM penstock.event_ids
WHERE ctid >= format('(%%s,0)', %(first)s::bigint)::tid AND ctid < format('(%%s,0)', %(beyond)s::bigint)::tid
    AND applied_at < now() - %(hours)s * interval '1 hour'
