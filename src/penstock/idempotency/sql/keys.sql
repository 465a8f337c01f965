-- name: reserve
-- The unique key decides between servers. A reservation whose holder is silent past its lease, and a key past its time, are taken over.
INSERT INTO penstock.idempotency_keys AS held (principal, route, key, parameters, token, lease_until)
VALUES (%(principal)s, %(route)s, %(key)s, %(parameters)s, %(token)s, clock_timestamp() + %(lease_seconds)s * interval '1 second')
ON CONFLICT (principal, route, key) DO UPDATE
SET parameters = excluded.parameters, body = NULL, token = excluded.token, lease_until = excluded.lease_until, job_id = NULL,
    created_at = clock_timestamp()
WHERE (held.job_id IS NULL AND held.lease_until < clock_timestamp())
    OR held.created_at < clock_timestamp() - %(keep_hours)s * interval '1 hour'
RETURNING token

-- name: find_key
SELECT job_id, parameters, body, greatest(0, extract(epoch FROM lease_until - clock_timestamp()))::float8 AS lease_seconds_left
FROM penstock.idempotency_keys WHERE principal = %(principal)s AND route = %(route)s AND key = %(key)s

-- name: renew_key
UPDATE penstock.idempotency_keys SET lease_until = clock_timestamp() + %(lease_seconds)s * interval '1 second'
WHERE principal = %(principal)s AND route = %(route)s AND key = %(key)s AND token = %(token)s AND job_id IS NULL
RETURNING token

-- name: complete_key
-- In the transaction that creates the job: both are there, or neither. Whoever waits for this row meanwhile sees the job.
UPDATE penstock.idempotency_keys SET job_id = %(job_id)s, body = %(body)s
WHERE principal = %(principal)s AND route = %(route)s AND key = %(key)s AND token = %(token)s AND job_id IS NULL
RETURNING token

-- name: release_key
-- The request came to nothing: the same key may be used at once.
DELETE FROM penstock.idempotency_keys
WHERE principal = %(principal)s AND route = %(route)s AND key = %(key)s AND token = %(token)s AND job_id IS NULL
