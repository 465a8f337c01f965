-- What a service needs beside the books: jobs that a queue hands out, files in storage, requests that may come twice.

ALTER TABLE penstock.jobs
    -- Handed out by the queue to whichever worker is free. Otherwise the process that made the job carries it, and no sweeper touches it.
    ADD COLUMN queued boolean NOT NULL DEFAULT false,
    ADD COLUMN principal text NOT NULL DEFAULT 'anonymous',
    -- Attempts that do not count towards the most: those that handed the job over, and those before somebody asked for a retry.
    ADD COLUMN attempts_excused integer NOT NULL DEFAULT 0,
    -- The report in storage, published when it is whole: key, size, sha256.
    ADD COLUMN report jsonb;

ALTER TABLE penstock.attempts
    -- Why the attempt ended, where it could say so.
    ADD COLUMN failure jsonb;

-- Reports that are still to be packed: looked for every few seconds.
CREATE INDEX jobs_unpacked ON penstock.jobs (finished_at) WHERE queued AND report IS NULL AND reported_rows > 0;
CREATE INDEX jobs_finished ON penstock.jobs (finished_at) WHERE finished_at IS NOT NULL;

-- Every file that Penstock puts into storage, noted before its first byte, so that what a crash leaves behind is found here and removed.
CREATE TABLE penstock.files (
    key text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('SOURCE', 'REPORT', 'EXPORT')),
    -- The name that its sender gave it, without folders.
    name text NOT NULL,
    -- Where a client sends the file itself; it names this when it starts the import.
    upload_id uuid UNIQUE,
    resource text,
    size bigint,
    sha256 text,
    job_id uuid REFERENCES penstock.jobs ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Not needed after this, unless its job is unfinished.
    expires_at timestamptz NOT NULL
);
CREATE INDEX files_by_expiry ON penstock.files (expires_at);
CREATE INDEX files_of_jobs ON penstock.files (job_id) WHERE job_id IS NOT NULL;

-- Requests that clients may send again. The key is what decides, so it holds across servers.
CREATE TABLE penstock.idempotency_keys (
    principal text NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    -- The request that has the key: what it asks, and the bytes it brought once they are known.
    parameters text NOT NULL,
    body text,
    -- Whoever receives the request; it alone may complete it, and only while its lease lives.
    token uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    job_id uuid REFERENCES penstock.jobs ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, route, key)
);
CREATE INDEX idempotency_keys_by_age ON penstock.idempotency_keys (created_at);

-- What all servers of one database share and nobody configures: the key that signs links, the mark of the storage.
CREATE TABLE penstock.shared_values (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- Which of the queue's own migrations were applied; it numbers them by its versions.
CREATE TABLE penstock.queue_migrations (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Pages of jobs, newest first, by what they are asked for: what is seldom (a resource that was loaded twice, the few that wait) is not
-- looked for among all jobs.
CREATE INDEX jobs_newest_by_status ON penstock.jobs (status, created_at DESC, job_id DESC);
CREATE INDEX jobs_newest_by_resource ON penstock.jobs (resource, created_at DESC, job_id DESC);
CREATE INDEX jobs_newest_by_both ON penstock.jobs (resource, status, created_at DESC, job_id DESC);

-- Without these upkeep looks at every row for each one that it removes.

-- A job that is removed takes its keys with it.
CREATE INDEX idempotency_keys_of_jobs ON penstock.idempotency_keys (job_id) WHERE job_id IS NOT NULL;
-- Whether an unfinished job still needs a file.
CREATE INDEX jobs_unfinished_by_file ON penstock.jobs ((source ->> 'key')) WHERE finished_at IS NULL;
