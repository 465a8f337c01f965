-- name: page
SELECT dead_letter_id, product_id, price, stock, occurred_at, event_id, accepted_at, substring(raw FOR %(most_raw)s) AS raw, code, reason,
    attempts, died_at
FROM penstock.dead_letters
WHERE (%(product_id)s::text IS NULL OR product_id = %(product_id)s) AND (%(code)s::text IS NULL OR code = %(code)s)
    AND (%(before)s::timestamptz IS NULL OR (died_at, dead_letter_id) < (%(before)s, %(before_id)s::uuid))
ORDER BY died_at DESC, dead_letter_id DESC LIMIT %(limit)s

-- name: get
SELECT dead_letter_id, product_id, price, stock, occurred_at, event_id, accepted_at, substring(raw FOR %(most_raw)s) AS raw, code, reason,
    attempts, died_at
FROM penstock.dead_letters WHERE dead_letter_id = %(dead_letter_id)s

-- name: hold
-- Whoever replays one holds its row until the event is in the log again: a second replay waits, and finds it gone.
SELECT product_id, price, stock, occurred_at, event_id, raw IS NOT NULL AS is_raw
FROM penstock.dead_letters WHERE dead_letter_id = %(dead_letter_id)s FOR UPDATE

-- name: now
SELECT clock_timestamp()

-- name: hold_next
-- Those that died before, the oldest first; what another replay holds is left to it.
SELECT dead_letter_id, died_at, product_id, price, stock, occurred_at, event_id
FROM penstock.dead_letters
WHERE raw IS NULL AND died_at <= %(until)s
    AND (%(product_id)s::text IS NULL OR product_id = %(product_id)s) AND (%(code)s::text IS NULL OR code = %(code)s)
    AND (%(after)s::timestamptz IS NULL OR (died_at, dead_letter_id) > (%(after)s, %(after_id)s::uuid))
ORDER BY died_at, dead_letter_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: remove
DELETE FROM penstock.dead_letters WHERE dead_letter_id = ANY(%(ids)s::uuid[])
