-- name: totals
SELECT sum(applied)::bigint, sum(superseded)::bigint, sum(duplicates)::bigint, sum(retried)::bigint, sum(dead)::bigint,
    (SELECT count(*) FROM (SELECT FROM penstock.dead_letters LIMIT %(most)s) AS counted)
FROM penstock.event_counters
