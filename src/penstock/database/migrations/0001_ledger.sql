-- Jobs and their books. The truth about every import: what was asked, who works on it, what has landed.

CREATE TABLE penstock.jobs (
    job_id uuid PRIMARY KEY,
    type text NOT NULL CHECK (type IN ('IMPORT', 'EXPORT')),
    resource text NOT NULL,
    status text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    options jsonb NOT NULL,
    reading jsonb NOT NULL,
    -- How the file is read; fixed by the first attempt so that every later one reads the same records.
    dialect jsonb,
    source jsonb NOT NULL,
    fingerprint text NOT NULL,
    request_id text,
    cancel_requested boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    total_rows bigint,
    processed_rows bigint NOT NULL DEFAULT 0,
    imported_rows bigint NOT NULL DEFAULT 0,
    updated_rows bigint NOT NULL DEFAULT 0,
    unchanged_rows bigint NOT NULL DEFAULT 0,
    failed_rows bigint NOT NULL DEFAULT 0,
    -- Rejected records on file, counted when the job ends.
    reported_rows bigint NOT NULL DEFAULT 0,
    total_bytes bigint NOT NULL DEFAULT 0,
    processed_bytes bigint NOT NULL DEFAULT 0,
    warnings jsonb NOT NULL DEFAULT '[]',
    error_summary jsonb NOT NULL DEFAULT '[]',
    failure jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT unchanged_is_part_of_updated CHECK (unchanged_rows <= updated_rows),
    CONSTRAINT finished_has_a_time CHECK ((status IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (finished_at IS NOT NULL)),
    -- A failed job says why.
    CONSTRAINT failed_has_a_reason CHECK (status <> 'FAILED' OR failure IS NOT NULL),
    -- Every record that was read has landed or is on file as rejected: the promise of the whole service.
    CONSTRAINT books_balance CHECK (
        finished_at IS NULL
        OR type <> 'IMPORT'
        OR (
            total_rows IS NOT NULL
            AND processed_rows = total_rows
            AND processed_rows = imported_rows + updated_rows + failed_rows
            AND failed_rows = reported_rows
        )
    )
);

CREATE INDEX jobs_newest ON penstock.jobs (created_at DESC, job_id DESC);
CREATE INDEX jobs_of_the_same_bytes ON penstock.jobs (fingerprint, resource, created_at DESC);
CREATE INDEX jobs_unfinished ON penstock.jobs (created_at) WHERE finished_at IS NULL;

-- Which attempt may write. In a row of its own, so that heartbeats and counters never wait for the transactions that hold it in share mode.
CREATE TABLE penstock.fences (
    job_id uuid PRIMARY KEY REFERENCES penstock.jobs ON DELETE CASCADE,
    epoch bigint NOT NULL DEFAULT 0
);

CREATE TABLE penstock.attempts (
    job_id uuid NOT NULL REFERENCES penstock.jobs ON DELETE CASCADE,
    epoch bigint NOT NULL,
    -- The process that works: with these another process of the same machine can tell that it is gone before its lease is.
    host text NOT NULL,
    pid integer NOT NULL,
    process_started text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    ended_at timestamptz,
    outcome text,
    PRIMARY KEY (job_id, epoch)
);

-- The plan of a wave, committed before its first partition: a later attempt follows it instead of settling anew, since what is tied
-- depends on the table, which others may have changed meanwhile.
CREATE TABLE penstock.waves (
    job_id uuid NOT NULL REFERENCES penstock.jobs ON DELETE CASCADE,
    wave integer NOT NULL,
    start_offset bigint NOT NULL,
    start_row bigint NOT NULL,
    start_line bigint NOT NULL,
    end_offset bigint NOT NULL,
    end_row bigint NOT NULL,
    end_line bigint NOT NULL,
    partitions smallint NOT NULL CHECK (partitions > 0),
    -- Numbers of the records that are applied in file order, in a partition of their own (its number is `partitions`).
    tied bigint[] NOT NULL DEFAULT '{}',
    processed_bytes bigint NOT NULL,
    PRIMARY KEY (job_id, wave),
    CHECK (end_row >= start_row)
);

-- One line for each unit of work that has landed, written in the transaction of its rows.
CREATE TABLE penstock.receipts (
    job_id uuid NOT NULL,
    wave integer NOT NULL,
    partition smallint NOT NULL,
    epoch bigint NOT NULL,
    records bigint NOT NULL,
    imported bigint NOT NULL,
    updated bigint NOT NULL,
    unchanged bigint NOT NULL,
    rejected bigint NOT NULL,
    -- Per code and field: how often, and the first rows.
    summary jsonb NOT NULL DEFAULT '[]',
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, wave, partition),
    FOREIGN KEY (job_id, wave) REFERENCES penstock.waves ON DELETE CASCADE,
    CONSTRAINT receipt_balances CHECK (records = imported + updated + rejected AND unchanged <= updated)
);

-- Rejected records, as they stood in the file, with what is wrong with each.
CREATE TABLE penstock.rejected (
    job_id uuid NOT NULL REFERENCES penstock.jobs ON DELETE CASCADE,
    "row" bigint NOT NULL,
    line bigint,
    raw bytea NOT NULL,
    problems jsonb NOT NULL,
    PRIMARY KEY (job_id, "row")
);
