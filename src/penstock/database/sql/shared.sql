-- name: keep_shared
-- Whoever comes first decides.
INSERT INTO penstock.shared_values (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT DO NOTHING

-- name: read_shared
SELECT value FROM penstock.shared_values WHERE name = %(name)s

-- name: replace_shared
INSERT INTO penstock.shared_values (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT (name) DO UPDATE SET value = excluded.value
