-- Product events: accepted into a log, applied in batches, set aside when they cannot be.

-- Waiting to be applied for the first time. Rows come by COPY and leave in the transaction that applies them.
CREATE TABLE penstock.events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id text NOT NULL,
    price numeric(12, 2) NOT NULL,
    stock integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_id text,
    accepted_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 200000);

-- Waiting to be applied again. A table of their own, so that whoever takes new ones does not pass by those that are not due.
CREATE TABLE penstock.event_retries (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id text NOT NULL,
    price numeric(12, 2) NOT NULL,
    stock integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_id text,
    accepted_at timestamptz NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    due_at timestamptz NOT NULL
);
CREATE INDEX event_retries_by_due ON penstock.event_retries (due_at);

-- Ids that senders gave and that have been applied: an event sent again is not applied again. Kept for EVENT_ID_RETENTION_HOURS.
CREATE TABLE penstock.event_ids (
    event_id text COLLATE "C" PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX event_ids_by_age ON penstock.event_ids USING brin (applied_at);

-- What could not be applied. Either an event, or what an event log held that is none (`raw`).
CREATE TABLE penstock.dead_letters (
    dead_letter_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    product_id text,
    price numeric(12, 2),
    stock integer,
    occurred_at timestamptz,
    event_id text,
    accepted_at timestamptz,
    raw bytea,
    code text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_or_raw CHECK ((raw IS NULL) = (num_nonnulls(product_id, price, stock, occurred_at, accepted_at) = 5))
);
CREATE INDEX dead_letters_newest ON penstock.dead_letters (died_at DESC, dead_letter_id DESC);
CREATE INDEX dead_letters_of_products ON penstock.dead_letters (product_id, died_at DESC);

-- Sums of many rows, so that nobody waits for another to count: each transaction takes a row that nobody else has at that moment.
-- `waiting` is kept by triggers and is how many rows the two tables above have; the others only grow.
CREATE TABLE penstock.event_counters (
    slot smallint PRIMARY KEY,
    waiting bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    superseded bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    retried bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
INSERT INTO penstock.event_counters (slot) SELECT generate_series(0, 63);

-- The row that this transaction counts in, locked. A session comes back to the same row unless another has it.
CREATE FUNCTION penstock.event_slot() RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    mine smallint;
BEGIN
    SELECT slot INTO mine FROM penstock.event_counters WHERE slot = pg_backend_pid() % 64 FOR NO KEY UPDATE SKIP LOCKED;
    IF mine IS NULL THEN
        SELECT slot INTO mine FROM penstock.event_counters FOR NO KEY UPDATE SKIP LOCKED LIMIT 1;
    END IF;
    RETURN coalesce(mine, pg_backend_pid() % 64);
END
$$;

CREATE FUNCTION penstock.count_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SELECT count(*) INTO n FROM changed;
    IF n > 0 THEN
        UPDATE penstock.event_counters SET waiting = waiting + CASE TG_OP WHEN 'INSERT' THEN n ELSE -n END
        WHERE slot = penstock.event_slot();
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_stored AFTER INSERT ON penstock.events REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.count_waiting();
CREATE TRIGGER count_taken AFTER DELETE ON penstock.events REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.count_waiting();
CREATE TRIGGER count_stored AFTER INSERT ON penstock.event_retries REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.count_waiting();
CREATE TRIGGER count_taken AFTER DELETE ON penstock.event_retries REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.count_waiting();
