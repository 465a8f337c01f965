-- Exports: jobs whose result is a file.

ALTER TABLE penstock.jobs
    -- The file of a completed export: key, size, sha256, expires_at. Set in the statement that completes the job, so that nobody is ever
    -- shown a part of one.
    ADD COLUMN result jsonb,
    ADD CONSTRAINT completed_export_has_its_file CHECK (type <> 'EXPORT' OR (status = 'COMPLETED') = (result IS NOT NULL)),
    -- As many records as the snapshot held, counted before the first was written.
    ADD CONSTRAINT completed_export_is_whole CHECK (type <> 'EXPORT' OR status <> 'COMPLETED' OR processed_rows = coalesce(total_rows, -1));

-- Pages of imports and of exports, which share a table.
CREATE INDEX jobs_newest_by_type ON penstock.jobs (type, created_at DESC, job_id DESC);
