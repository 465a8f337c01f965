-- name: server_and_rights
-- Version, role, whether it may make a schema and tables (current_schema is null where no schema of the search path exists), and whether
-- migrations were ever applied here.
SELECT
    current_setting('server_version'),
    current_user::text,
    has_database_privilege(current_database(), 'CREATE'),
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    to_regclass('penstock.migrations') IS NOT NULL;

-- name: applied_migrations
-- Numbers only; what their files were is checked when migrating.
SELECT number FROM penstock.migrations;

-- name: server_clock
-- Seconds since 1970 by the server's clock at this moment, not at the transaction's start.
SELECT extract(epoch FROM clock_timestamp())::float8;
