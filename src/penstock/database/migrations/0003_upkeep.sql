-- Indexes without which upkeep looks at every row for each one that it removes.

-- A job that is removed takes its keys with it.
CREATE INDEX idempotency_keys_of_jobs ON penstock.idempotency_keys (job_id) WHERE job_id IS NOT NULL;
-- Whether an unfinished job still needs a file.
CREATE INDEX jobs_unfinished_by_file ON penstock.jobs ((source ->> 'key')) WHERE finished_at IS NULL;
