-- name: enter
-- Whoever applies waits a moment for others, not as long as an import does. -> what it was before, for `leave`
SELECT current_setting('lock_timeout'), set_config('lock_timeout', %(lock_timeout)s, true)

-- name: patience
SELECT set_config('lock_timeout', %(lock_timeout)s, true)

-- name: note_ids
-- In order, so that two batches wait for each other and never deadlock. -> those that were not there
INSERT INTO penstock.event_ids (event_id) SELECT unnest(%(ids)s::text[]) ON CONFLICT DO NOTHING RETURNING event_id

-- name: forget_ids
-- Of events that this transaction has noted and could not apply.
DELETE FROM penstock.event_ids WHERE event_id = ANY(%(ids)s::text[])

-- name: bury
INSERT INTO penstock.dead_letters (
    product_id, price, stock, occurred_at, event_id, accepted_at, raw, code, reason, attempts
)
VALUES (
    %(product_id)s, %(price)s, %(stock)s, %(occurred_at)s, %(event_id)s, %(accepted_at)s, %(raw)s, %(code)s, %(reason)s, %(attempts)s
)

-- name: leave
SELECT set_config('lock_timeout', %(lock_timeout)s, true), penstock.count_events(
    applied => %(applied)s, superseded => %(superseded)s, duplicates => %(duplicates)s, retried => %(retried)s, dead => %(dead)s
)
