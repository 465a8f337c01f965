"""Connections: bounded waits, the same session everywhere, and clear words when there is none."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from penstock.database import connect
from penstock.database.connect import Database, Limits, database
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError
from penstock.settings import load_settings
from tests.support.proxy import Loss, Proxy


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    found = Database(database, workers=2, connect_seconds=2)
    yield found
    found.close()


def shown(connection: psycopg.Connection, *names: str) -> list[str]:
    return [connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in names]  # type: ignore[index]  # one row each


def test_a_session_is_the_same_everywhere(opened: Database) -> None:
    """Whatever the server's or the role's defaults: UTC, ISO dates, UTF-8, a name, and a limit on every wait. Pooled or not."""
    names = ["TimeZone", "DateStyle", "client_encoding", "application_name", "lock_timeout", "statement_timeout"]
    names += ["idle_in_transaction_session_timeout", "client_connection_check_interval"]
    wanted = ["UTC", "ISO, YMD", "UTF8", "penstock", "10s", "10min", "30s", "5s"]
    with opened.connect() as own, opened.connection() as pooled:
        assert not own.autocommit
        assert shown(own, *names) == wanted
        assert shown(pooled, *names) == wanted
        assert own.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        own.rollback()
        assert shown(own, "TimeZone") == ["UTC"]


def test_limits_may_differ_for_one_connection(opened: Database) -> None:
    """An atomic import sits longer in its transaction."""
    with opened.connect(autocommit=True, limits=Limits(idle_in_transaction=0, lock=1)) as connection:
        assert connection.autocommit
        assert shown(connection, "idle_in_transaction_session_timeout", "lock_timeout") == ["0", "1s"]


def test_parameters_of_the_address_go_before_ours(database: str) -> None:
    """Who writes connect_timeout into the URL means it."""
    given = conninfo_to_dict(Database(make_conninfo(database, connect_timeout=77, application_name="mine")).conninfo)
    assert (given["connect_timeout"], given["application_name"]) == ("77", "mine")
    assert (given["tcp_user_timeout"], given["keepalives_idle"]) == ("15000", "5")


def test_the_pool_commits_or_rolls_back(opened: Database) -> None:
    """At the end of the block, by how it ended."""
    with opened.connection() as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with pytest.raises(psycopg.errors.DivisionByZero), opened.connection() as connection:
        connection.execute("INSERT INTO kept VALUES (1), (1/0)")
    with opened.connection() as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_the_pool_is_bounded(opened: Database) -> None:
    """With all connections out the next caller waits, and is told so after the connection time-out."""
    with opened.connection(), opened.connection(), pytest.raises(DatabaseUnavailableError, match="within 2 s"), opened.connection():
        pass


def test_the_pool_opens_once_for_all_threads(opened: Database) -> None:
    """Threads that come at the same time get one pool."""
    barrier, pools = threading.Barrier(4), set()

    def open_it() -> None:
        barrier.wait()
        pools.add(id(opened._opened_pool()))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pools) == 1


def test_a_server_that_was_away_for_long_is_tried_soon(opened: Database) -> None:
    """The pool's pauses between attempts, which double, do not grow with the outage."""
    assert opened._opened_pool().reconnect_timeout <= 3


def test_a_broken_pooled_connection_is_replaced(opened: Database, proxied: Callable[[str], Proxy]) -> None:
    """After the network broke, the next block gets a connection that works."""
    proxy = proxied(opened.conninfo)
    through = Database(proxy.conninfo, workers=2, connect_seconds=5)
    with through.connection() as connection:
        connection.execute("SELECT 1")
    proxy.cut()
    with through.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    through.close()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"dbname": "absent"}, "no such database or role"),
        ({"host": "/absent"}, "there is no such socket"),
        ({"host": "absent.invalid"}, "the host name is unknown"),
    ],
)
def test_what_cannot_be_reached_is_said_without_the_password(database: str, change: dict[str, str], hint: str) -> None:
    """The message names the place and what to check."""
    address = make_conninfo(database, **{"password": "hunter2", **change})
    with pytest.raises(DatabaseUnavailableError, match=hint) as raised:
        Database(address).connect()
    assert next(iter(change.values())) in raised.value.message
    assert "hunter2" not in f"{raised.value} {raised.value.details}"


def test_a_port_where_nothing_listens() -> None:
    """It says so, with host and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(DatabaseUnavailableError, match=f"127.0.0.1, port {port}, database d: nothing listens there"):
            Database(f"postgresql://u:hunter2@127.0.0.1:{port}/d").connect()


def test_a_server_that_never_answers_is_given_up(database: str, proxied: Callable[[str], Proxy]) -> None:
    """The connection time-out bounds it."""
    proxy = proxied(database)
    proxy.stall()
    with pytest.raises(DatabaseUnavailableError, match="no answer in time"):
        Database(proxy.conninfo, connect_seconds=2).connect()


def test_an_old_server_is_refused(opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below PostgreSQL 14 nothing is tried; no connection is left open."""
    monkeypatch.setattr(connect, "OLDEST_VERSION", 99)
    with pytest.raises(DatabaseRefusedError, match="Penstock needs 99 or newer"):
        opened.connect()


def test_settings_lead_to_the_external_server(database: str, tmp_path: Path) -> None:
    """By URL or by parts; the pool is a third of IMPORT_WORKERS, imports have the rest; and the lease bounds how long locks are kept."""
    parts = conninfo_to_dict(database)
    by_url = {"DATABASE_URL": database}
    by_parts = {"DB_HOST": parts["host"], "DB_PORT": parts.get("port", 5432), "DB_USER": parts["user"], "DB_NAME": parts["dbname"]}
    by_parts |= {"DB_PASSWORD": parts["password"]} if "password" in parts else {}
    for environ in (by_url, by_parts):
        strings = {name: str(value) for name, value in environ.items()}
        settings = load_settings({**strings, "IMPORT_JOB_LEASE_SECONDS": "7", "IMPORT_WORKERS": "9"}, tmp_path / ".env")
        with connect.database(settings) as found, found.connection() as connection:
            assert connection.info.dbname == parts["dbname"]
            assert shown(connection, "idle_in_transaction_session_timeout") == ["7s"]
            assert found._opened_pool().max_size == 3


def test_without_settings_the_embedded_server_is_started_and_stopped(
    data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And a name without a host, which has no effect, is pointed out."""
    settings = load_settings({"PENSTOCK_DATA_DIR": str(data_dir), "DB_NAME": "forgotten"}, tmp_path / ".env")
    with database(settings) as found, found.connect() as connection:
        assert connection.info.dbname == "penstock"
        assert (data_dir / "postgres" / "postmaster.pid").exists()
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    assert "DATABASE_NAME" in capfd.readouterr().err


@pytest.mark.parametrize(("loss", "rows"), [(Loss.REPLY, 1), (Loss.REQUEST, 0)])
def test_a_lost_commit_looks_the_same_whether_it_took_effect_or_not(
    opened: Database, proxied: Callable[[str], Proxy], loss: Loss, rows: int
) -> None:
    """What the proxy is for: the client cannot know, only the database can tell."""
    with opened.connection() as connection:
        connection.execute("CREATE TABLE kept (n int)")
    proxy = proxied(opened.conninfo)
    with Database(proxy.conninfo).connect() as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        proxy.lose_commit(loss)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert proxy.lost.wait(10)
    with opened.connection() as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (rows,)


def test_the_proxy_refuses_and_accepts_again(opened: Database, proxied: Callable[[str], Proxy]) -> None:
    """Open connections stay; new ones break until it accepts again."""
    proxy = proxied(opened.conninfo)
    through = Database(proxy.conninfo, connect_seconds=2)
    with through.connect(autocommit=True) as before:
        proxy.refuse()
        with pytest.raises(DatabaseUnavailableError):
            through.connect()
        before.execute("SELECT 1")
        proxy.accept()
        through.connect().close()


def test_who_waits_in_vain_warns_the_others(database: str, proxied: Callable[[str], Proxy]) -> None:
    """While the database is away only the first waits as long as it may; when it is back, everybody has that patience again."""
    found = Database(proxied(database).conninfo, workers=1, connect_seconds=2)
    try:
        with found.connection():
            for _ in range(2):
                with pytest.raises(DatabaseUnavailableError), found.connection():
                    pass
            assert found.patience_seconds == connect.AWAY_SECONDS
        with found.connection():
            assert found.patience_seconds == 2
    finally:
        found.close()
