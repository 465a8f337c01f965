-- name: note_file
-- Before the first byte, so that what a crash leaves in storage is found by its row.
INSERT INTO penstock.files (key, kind, name, upload_id, resource, expires_at)
VALUES (%(key)s, 'SOURCE', %(name)s, %(upload_id)s, %(resource)s, clock_timestamp() + %(keep_seconds)s * interval '1 second')

-- name: settle_file
-- An upload, whole and on disk.
UPDATE penstock.files SET size = %(size)s, sha256 = %(sha256)s WHERE key = %(key)s

-- name: give_up_file
-- A file that no job was made for: past its time from the beginning, so that none can be made for it. One that a job has stays, whoever
-- asks; so does an upload, which may be asked for again.
UPDATE penstock.files SET expires_at = least(expires_at, created_at) WHERE key = %(key)s AND job_id IS NULL AND upload_id IS NULL RETURNING key

-- name: forget_file
-- One that was given up, when its object is gone.
DELETE FROM penstock.files WHERE key = %(key)s AND job_id IS NULL AND upload_id IS NULL

-- name: find_upload
-- Uploads past their time are as good as gone: housekeeping may be removing them.
SELECT key, name, resource, size, sha256, job_id FROM penstock.files WHERE upload_id = %(upload_id)s AND expires_at > clock_timestamp()

-- name: find_upload_by_key
-- For the server's own PUT, which knows the key from the link.
SELECT key, name, resource, size, sha256, job_id FROM penstock.files
WHERE key = %(key)s AND upload_id IS NOT NULL AND expires_at > clock_timestamp()

-- name: attach_file
-- In the job's transaction. One upload may serve several jobs; the row shows the newest, and lives a day longer at least. What is known of
-- an upload's bytes was noted when they came; of other files it is noted here.
UPDATE penstock.files
SET job_id = %(job_id)s, size = CASE WHEN upload_id IS NULL THEN %(size)s ELSE size END,
    sha256 = CASE WHEN upload_id IS NULL THEN %(sha256)s ELSE sha256 END,
    expires_at = greatest(expires_at, clock_timestamp() + %(keep_seconds)s * interval '1 second')
WHERE key = %(key)s AND expires_at > clock_timestamp()
RETURNING key
