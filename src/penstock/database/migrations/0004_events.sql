-- Product events: accepted into a log, applied in batches, set aside when they cannot be.

-- Waiting to be applied for the first time. Rows come by COPY and leave in the transaction that applies them.
CREATE TABLE penstock.events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id text NOT NULL,
    price numeric(12, 2) NOT NULL,
    stock integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_id text,
    accepted_at timestamptz NOT NULL,
    -- What a reader could not take in would come back for ever: it never gets in.
    CONSTRAINT readable CHECK (price <> 'NaN' AND occurred_at BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'
        AND accepted_at BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z')
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
    due_at timestamptz NOT NULL,
    -- What a reader could not take in would come back for ever: it never gets in.
    CONSTRAINT readable CHECK (price <> 'NaN' AND occurred_at BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'
        AND accepted_at BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z')
);
CREATE INDEX event_retries_by_due ON penstock.event_retries (due_at);
CREATE INDEX event_retries_by_age ON penstock.event_retries (accepted_at);

-- Ids that senders gave and that have been applied: an event sent again is not applied again. Kept for EVENT_ID_RETENTION_HOURS.
CREATE TABLE penstock.event_ids (
    event_id text COLLATE "C" PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

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

-- Sums of many rows, so that nobody waits for another to count: a transaction counts in a row that nobody else has at that moment.
-- `waiting` is kept by triggers and is how many rows the two tables above have; the others only grow.
-- No index: sessions know where their row is (see below), and a unique one would look at all its versions, which an old snapshot keeps.
CREATE TABLE penstock.event_counters (
    slot smallint NOT NULL,
    waiting bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    superseded bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    retried bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
INSERT INTO penstock.event_counters (slot) SELECT generate_series(0, 63);

-- A row that this transaction may count in, locked.
CREATE FUNCTION penstock.event_slot() RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    wanted smallint;
    mine smallint;
BEGIN
    FOR attempt IN 1..8 LOOP
        wanted := floor(random() * 64);
        SELECT slot INTO mine FROM penstock.event_counters WHERE slot = wanted FOR NO KEY UPDATE SKIP LOCKED;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN coalesce(mine, wanted);
END
$$;

-- Add to the counters, in this transaction. A session stays with its row and remembers where the newest version is: while somebody holds an
-- old snapshot, an export for an hour, every version since then stays, and whoever looked for the row by its number would pass by all.
-- The place is a setting of the session, which PostgreSQL takes back with a transaction or savepoint that is rolled back.
CREATE FUNCTION penstock.count_events(
    waiting bigint DEFAULT 0, applied bigint DEFAULT 0, superseded bigint DEFAULT 0, duplicates bigint DEFAULT 0, retried bigint DEFAULT 0,
    dead bigint DEFAULT 0
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    place text := current_setting('penstock.counter', true);
    mine smallint;
    version tid;
BEGIN
    IF place <> '' THEN
        SELECT c.slot, c.ctid INTO mine, version FROM penstock.event_counters AS c
        WHERE c.ctid = split_part(place, ' ', 2)::tid AND c.slot = split_part(place, ' ', 1)::smallint
        FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    IF version IS NULL THEN
        mine := penstock.event_slot();
        SELECT c.ctid INTO version FROM penstock.event_counters AS c WHERE c.slot = mine FOR NO KEY UPDATE;
    END IF;
    UPDATE penstock.event_counters AS c
    SET waiting = c.waiting + count_events.waiting, applied = c.applied + count_events.applied,
        superseded = c.superseded + count_events.superseded, duplicates = c.duplicates + count_events.duplicates,
        retried = c.retried + count_events.retried, dead = c.dead + count_events.dead
    WHERE c.ctid = version
    RETURNING c.ctid INTO version;
    PERFORM set_config('penstock.counter', mine || ' ' || version, false);
END
$$;

CREATE FUNCTION penstock.count_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SELECT count(*) INTO n FROM changed;
    IF n > 0 THEN
        PERFORM penstock.count_events(waiting => CASE TG_OP WHEN 'INSERT' THEN n ELSE -n END);
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
