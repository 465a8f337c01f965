"""A timestamp as PostgreSQL writes it for people who read ISO 8601."""

from psycopg import sql

# ISO 8601 ends at the years 1 and 9999. An import writes none beyond; another writer's are shown in PostgreSQL's own words.
_MOMENT = sql.SQL(
    "CASE WHEN {column} BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z' THEN to_char({column} AT TIME ZONE 'UTC',"
    ' CASE WHEN date_trunc(\'second\', {column}) = {column} THEN \'YYYY-MM-DD"T"HH24:MI:SS"Z"\' ELSE \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\' END)'
    " ELSE {column}::text END"
)


def moment_text(column: sql.Composable) -> sql.Composed:
    """A timestamptz in UTC with Z, and with microseconds where there are any; `column` is evaluated several times."""
    return _MOMENT.format(column=column)
