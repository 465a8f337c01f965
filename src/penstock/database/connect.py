"""Connections to PostgreSQL, embedded or somebody's server, all alike: limits on every wait, UTC, checked version."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from penstock.database.answering import AnsweredConnection
from penstock.database.embedded import EmbeddedPostgres
from penstock.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from penstock.logs import get_logger
from penstock.settings import Settings

OLDEST_VERSION = 14
APPLICATION_NAME = "penstock"
_CONNECTION_DEFAULTS = {
    "application_name": APPLICATION_NAME,
    "client_encoding": "UTF8",
    # A connection that went dead without a word is noticed after about 15 s instead of two hours.
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds; for data under way, which keepalives do not watch
    # Of several hosts the one that can be written to; a standby is refused here instead of at the first INSERT.
    "target_session_attrs": "read-write",
}
_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    # The same limits at the server's end: with them the locks of a client that the network cut off are free in seconds.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
# Lets a long statement end when its client was killed. A server on Windows refuses it.
CLIENT_CHECK = {"client_connection_check_interval": "5s"}
# The pool's pauses between attempts to reach a server double until then; after that whoever asks next has it try at once. With the five
# minutes that it takes by itself, a server that was away for one minute was not seen again for another.
_RECONNECT_SECONDS = 3.0
AWAY_SECONDS = 1.0
_FIRST_CAUSES = {
    "password authentication failed": "the password or the role is wrong: check DATABASE_USER and DATABASE_PASSWORD",
    "no password supplied": "the server asks for a password: set DATABASE_PASSWORD",
    "no pg_hba.conf entry": "the server's pg_hba.conf does not let this role in from here",
    "Connection refused": "nothing listens there: check host and port, and that PostgreSQL runs",
    "No such file or directory": "there is no such socket: check the host, and that PostgreSQL runs",
    "could not translate host name": "the host name is unknown: check its spelling",
    "failed to resolve host": "the host name is unknown: check its spelling",
    "timeout": "there was no answer in time: check host, port and firewalls",
    "starting up": "the server is starting up: try again in a moment",
    "shutting down": "the server is shutting down",
    "too many clients": "all the server's connections are taken: lower IMPORT_WORKERS or raise max_connections",
    "connection slots": "all the server's connections are taken: lower IMPORT_WORKERS or raise max_connections",
    "read-only": "that server is a standby or read-only: connect to the primary",
    "hot standby": "that server is a standby: connect to the primary",
    "SSL": "the two sides do not agree on TLS: check sslmode",
    "does not exist": "no such database or role: check DATABASE_NAME and DATABASE_USER",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a session may wait or sit, in seconds; 0 is for ever.

    `idle_in_transaction` bounds how long a stopped process keeps its locks; it should not be above the lease of a job.
    """

    lock: int = 10
    statement: int = 600
    idle_in_transaction: int = 30

    def settings(self) -> dict[str, str]:
        return {
            "lock_timeout": f"{self.lock}s",
            "statement_timeout": f"{self.statement}s",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction}s",
        }


class Database:
    """How this process reaches its database. `conninfo` holds the password; do not show it.

    Its methods may be called by several threads. Those that connect raise DatabaseUnavailableError and DatabaseRefusedError.
    """

    def __init__(self, conninfo: str, *, workers: int = 10, connect_seconds: int = 10, limits: Limits | None = None) -> None:
        given: dict[str, Any] = {name: value for name, value in conninfo_to_dict(conninfo).items() if value is not None}
        defaults: dict[str, Any] = {**_CONNECTION_DEFAULTS, "connect_timeout": connect_seconds}
        self.conninfo = make_conninfo(**{**defaults, **given})
        self.limits = limits or Limits()
        self.connect_seconds = connect_seconds
        self._workers = workers
        self._pool: ConnectionPool[psycopg.Connection] | None = None
        self._pool_lock = threading.Lock()
        self.patience_seconds: float = connect_seconds  # for a connection of the pool

    def connect(
        self, *, autocommit: bool = False, limits: Limits | None = None, answer_seconds: float | None = None, **parameters: Any
    ) -> psycopg.Connection:
        """A connection of its own, to be closed by the caller. `parameters` are libpq's and go before those of `conninfo`.

        `answer_seconds`: that long it waits for an answer, as AnsweredConnection does; None: as long as the server's `limits` let it.
        """
        kind = psycopg.Connection if answer_seconds is None else AnsweredConnection
        try:
            # No prepared statements: the generic plan that PostgreSQL takes after five runs was made for staging tables of another size,
            # and poolers between us and the server may not keep them.
            connection = kind.connect(self.conninfo, autocommit=True, prepare_threshold=None, **parameters)
        except psycopg.OperationalError as error:
            raise self._unreachable(error) from error
        if isinstance(connection, AnsweredConnection) and answer_seconds is not None:
            connection.answer_seconds = answer_seconds
        try:
            _check_version(connection)
            _set_session(connection, {**_SESSION, **(limits or self.limits).settings()})
            connection.set_autocommit(autocommit)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.OperationalError):
                raise self._unreachable(error) from error
            raise
        return connection

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """A connection from the pool: committed at the end, rolled back on an exception. Waits while all of them are out.

        Who waited in vain makes the next ones wait less, until one gets a connection: while the database is away, requests must not fill
        all threads with waiting.
        """
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._opened_pool().connection(self.patience_seconds))
                self.patience_seconds = self.connect_seconds
            except PoolTimeout as error:
                self.patience_seconds = AWAY_SECONDS
                raise DatabaseUnavailableError(
                    f"No connection to PostgreSQL at {self.where} within {self.connect_seconds} s. Check that it runs and can be reached."
                ) from error
            yield connection

    @property
    def where(self) -> str:
        """Host, port and database, to show to people."""
        known = conninfo_to_dict(self.conninfo)
        host, port = known.get("host") or known.get("hostaddr") or "(libpq's default)", known.get("port") or 5432
        return f"{host}, port {port}, database {known.get('dbname') or '(by the name of the role)'}"

    def session_settings(self) -> dict[str, str]:
        """What every session sets, for those that connect by themselves with `conninfo`."""
        return {**_SESSION, **self.limits.settings()}

    def close(self) -> None:
        """Close the pool; connections that are out close when they come back."""
        with self._pool_lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1)

    def _opened_pool(self) -> ConnectionPool[psycopg.Connection]:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.conninfo,
                    kwargs={"autocommit": False, "prepare_threshold": None},
                    min_size=0,
                    max_size=self._workers,
                    timeout=self.connect_seconds,
                    reconnect_timeout=_RECONNECT_SECONDS,
                    configure=self._configure,
                    check=ConnectionPool.check_connection,
                    name=APPLICATION_NAME,
                    open=True,
                )
            return self._pool

    def _configure(self, connection: psycopg.Connection) -> None:
        _set_session(connection, self.session_settings())
        connection.commit()

    def _unreachable(self, error: psycopg.OperationalError) -> DatabaseError:
        text = str(error)
        cause = next((cause for sign, cause in _FIRST_CAUSES.items() if sign in text), "check host, port, database, role and password")
        get_logger(__name__).warning("cannot connect to PostgreSQL", where=self.where, text=text)
        return DatabaseUnavailableError(f"Cannot connect to PostgreSQL at {self.where}: {cause}.", where=self.where)


def pool_size(import_workers: int) -> int:
    """How many of a process's database operations are short ones on pooled connections; imports have the others."""
    return max(1, min(4, import_workers // 3))


@contextmanager
def database(settings: Settings) -> Iterator[Database]:
    """The database that the settings ask for, reached once already. Without one there: the embedded server, shared until the end.

    Raises DatabaseUnavailableError or DatabaseRefusedError where it cannot be had.
    """
    if settings.embedded:
        _warn_of_half_settings(settings)
        with EmbeddedPostgres(settings.penstock_data_dir) as server, _opened(server.conninfo, settings) as opened:
            yield opened
    else:
        with _opened(_external_conninfo(settings), settings) as opened:
            yield opened


@contextmanager
def _opened(conninfo: str, settings: Settings) -> Iterator[Database]:
    limits = Limits(idle_in_transaction=settings.import_job_lease_seconds)
    opened = Database(conninfo, workers=pool_size(settings.import_workers), connect_seconds=settings.connection_timeout, limits=limits)
    opened.connect().close()  # what is wrong with the settings shows here, not under the first job
    try:
        yield opened
    finally:
        opened.close()


def _external_conninfo(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    password = settings.database_password
    return make_conninfo(
        host=settings.database_host,
        port=settings.database_port,
        user=settings.database_user,
        password=password.get_secret_value() if password else None,
        dbname=settings.database_name,
    )


def _warn_of_half_settings(settings: Settings) -> None:
    names = ("database_user", "database_password", "database_name", "database_port")
    if given := [name.upper() for name in names if name in settings.model_fields_set]:
        get_logger(__name__).warning(
            "neither DATABASE_URL nor DATABASE_HOST is set, so these have no effect and the embedded PostgreSQL is used", ignored=given
        )


def _check_version(connection: psycopg.Connection) -> None:
    if connection.info.server_version < OLDEST_VERSION * 10_000:
        found = connection.info.parameter_status("server_version")
        raise DatabaseRefusedError(f"The server is PostgreSQL {found}; Penstock needs {OLDEST_VERSION} or newer.", server_version=found)


def _set_session(connection: psycopg.Connection, wanted: dict[str, str]) -> None:
    """One round trip. By statement and not by the start-up packet's `options`, which poolers refuse."""
    try:
        with connection.transaction():
            connection.execute(_set_statement({**wanted, **CLIENT_CHECK}))
    except psycopg.errors.InvalidParameterValue:
        connection.execute(_set_statement(wanted))


def _set_statement(wanted: dict[str, str]) -> sql.Composed:
    calls = (sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in wanted.items())
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))
