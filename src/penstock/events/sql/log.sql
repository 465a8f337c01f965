-- name: known_ids
-- Of the ids that senders gave, those that have been applied.
SELECT event_id FROM penstock.event_ids WHERE event_id = ANY(%(ids)s)

-- name: count_waiting
SELECT coalesce(sum(waiting), 0)::bigint FROM penstock.event_counters

-- name: store
COPY penstock.events (product_id, price, stock, occurred_at, event_id, accepted_at) FROM STDIN (FORMAT binary)

-- name: make_durable
-- Accepted (with NATS: applied) means that the disk has it, whatever the database's own default is; what waits for standbys besides stays as it was chosen.
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'

-- name: look
-- How many there are to take, those included that others have at this moment, and where the first is. Where none is: the last position that
-- was ever given out, by anybody. Ordered, so that it goes by index from where it was told to begin.
SELECT there.n + due.n, coalesce(there.first, last.position), coalesce(due.first, now())
FROM (SELECT last_value AS position FROM penstock.events_position_seq) AS last,
    (SELECT count(*) AS n, min(position) AS first
     FROM (SELECT position FROM penstock.events WHERE position >= %(position)s ORDER BY position LIMIT %(limit)s) AS e) AS there,
    (SELECT count(*) AS n, min(due_at) AS first
     FROM (SELECT due_at FROM penstock.event_retries WHERE due_at BETWEEN %(due)s AND now() ORDER BY due_at LIMIT %(limit)s) AS r) AS due

-- name: first_of_all
SELECT coalesce(
        (SELECT position FROM penstock.events ORDER BY position LIMIT 1), (SELECT last_value FROM penstock.events_position_seq)
    ),
    coalesce((SELECT due_at FROM penstock.event_retries ORDER BY due_at LIMIT 1), now())

-- name: take
-- Found by their place in the table, which no event ever changes. The array keeps the planner from reading the whole table for a join.
WITH taken AS (
    DELETE FROM penstock.events WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM penstock.events WHERE position >= %(position)s ORDER BY position LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING position, product_id, price, stock, occurred_at, event_id, accepted_at
)
SELECT 0, product_id, price, stock, occurred_at, event_id, accepted_at, position FROM taken ORDER BY position

-- name: take_due
WITH taken AS (
    DELETE FROM penstock.event_retries WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM penstock.event_retries WHERE due_at BETWEEN %(due)s AND now()
        ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING attempts, product_id, price, stock, occurred_at, event_id, accepted_at, due_at
)
SELECT attempts, product_id, price, stock, occurred_at, event_id, accepted_at, due_at FROM taken ORDER BY due_at

-- name: put_off
-- By the clock, not by the transaction's beginning: applying the others of the batch may have taken a while.
INSERT INTO penstock.event_retries (product_id, price, stock, occurred_at, event_id, accepted_at, attempts, due_at)
SELECT product_id, price, stock, occurred_at, event_id, accepted_at, attempts, clock_timestamp() + make_interval(secs => seconds)
FROM unnest(
    %(product_id)s::text[], %(price)s::numeric[], %(stock)s::integer[], %(occurred_at)s::timestamptz[], %(event_id)s::text[],
    %(accepted_at)s::timestamptz[], %(attempts)s::integer[], %(seconds)s::float8[]
) AS put_off (product_id, price, stock, occurred_at, event_id, accepted_at, attempts, seconds)

-- name: backlog
-- The first by position stands for the oldest: one by one they were given out as the events came.
SELECT (SELECT coalesce(sum(waiting), 0)::bigint FROM penstock.event_counters),
    first.position, first.accepted_at,
    (SELECT accepted_at FROM penstock.event_retries ORDER BY accepted_at LIMIT 1),
    last.position
FROM (SELECT last_value AS position FROM penstock.events_position_seq) AS last
LEFT JOIN (
    SELECT position, accepted_at FROM penstock.events WHERE position >= %(position)s ORDER BY position LIMIT 1
) AS first ON true
