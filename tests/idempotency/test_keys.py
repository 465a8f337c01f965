"""Idempotency keys on a real database: one request has a key, whatever server it asks."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from penstock.bootstrap import Application, application
from penstock.errors import IdempotencyInProgressError, IdempotencyKeyReusedError, InvalidOptionError
from penstock.formats.model import ReadOptions
from penstock.idempotency import Idempotency, Replay, Reservation, fingerprint, parse_key, renewing
from penstock.jobs.model import ImportOptions, JobId
from penstock.settings import load_settings
from tests.support.waiting import until

ROUTE = "POST /v1/imports"


@pytest.fixture
def here(database: str, tmp_path: Path) -> Iterator[Application]:
    settings = load_settings({"DATABASE_URL": database, "PENSTOCK_DATA_DIR": str(tmp_path)}, Path("/nonexistent"))
    with application(settings) as found:
        yield found


def _begin(keys: Idempotency, parameters: str = "p", *, key: str = "k", principal: str = "anonymous") -> Reservation | Replay:
    return keys.begin(principal, ROUTE, key, parameters)


def _reserved(keys: Idempotency, parameters: str = "p") -> Reservation:
    begun = _begin(keys, parameters)
    assert isinstance(begun, Reservation)
    return begun


def _job(here: Application, tmp_path: Path, reservation: Reservation, body: str = "b") -> JobId:
    """A job whose transaction completes the key."""
    path = tmp_path / "users.csv"
    path.write_text("email,name\na@example.com,A\n")

    def within(connection: psycopg.Connection, job_id: JobId) -> None:
        here.idempotency.complete(connection, reservation, body, job_id)

    return here.imports.create("users", str(path), read=ReadOptions(), options=ImportOptions(), within=within).job_id


def _set(database: str, column: str, ago: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(f"UPDATE penstock.idempotency_keys SET {column} = now() - interval '{ago}'")


def test_the_same_request_gets_the_first_job(here: Application, tmp_path: Path) -> None:
    """Other parameters or another body are another request; another route or principal has keys of its own."""
    job_id = _job(here, tmp_path, _reserved(here.idempotency))
    again = _begin(here.idempotency)
    assert isinstance(again, Replay)
    assert again == Replay(job_id=job_id, body="b")
    again.check("b")
    with pytest.raises(IdempotencyKeyReusedError):
        again.check("c")
    with pytest.raises(IdempotencyKeyReusedError):
        _begin(here.idempotency, "q")
    assert isinstance(_begin(here.idempotency, principal="somebody"), Reservation)
    assert isinstance(here.idempotency.begin("anonymous", "POST /v1/exports", "k", "p"), Reservation)


def test_of_requests_at_once_one_has_the_key(here: Application) -> None:
    """Eight at a barrier: one reservation, seven refusals."""
    barrier = threading.Barrier(8)

    def begin() -> str:
        barrier.wait(10)
        try:
            return type(_begin(here.idempotency)).__name__
        except IdempotencyInProgressError:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        outcomes = [future.result() for future in [pool.submit(begin) for _ in range(8)]]
    assert sorted(outcomes) == ["Reservation"] + ["refused"] * 7


def test_a_released_key_is_free_and_a_completed_one_stays(here: Application, tmp_path: Path) -> None:
    first = _reserved(here.idempotency)
    here.idempotency.release(first)
    second = _reserved(here.idempotency)
    here.idempotency.release(first)  # late: it holds nothing any more
    with pytest.raises(IdempotencyInProgressError) as refused:
        _begin(here.idempotency)
    assert refused.value.details["retry_after_seconds"] > 0
    job_id = _job(here, tmp_path, second)
    here.idempotency.release(second)
    assert _begin(here.idempotency) == Replay(job_id=job_id, body="b")


def test_a_silent_holder_loses_the_key_at_the_end_of_its_lease(here: Application, database: str, tmp_path: Path) -> None:
    """What it still does then comes to nothing: no job of its own, no hold on the key."""
    silent = _reserved(here.idempotency)
    _set(database, "lease_until", "1 second")
    taken = _reserved(here.idempotency)
    with pytest.raises(IdempotencyInProgressError):
        here.idempotency.renew(silent)
    with pytest.raises(IdempotencyInProgressError):
        _job(here, tmp_path, silent)
    assert here.imports.list() == ([], None)
    here.idempotency.release(silent)
    job_id = _job(here, tmp_path, taken)
    assert _begin(here.idempotency) == Replay(job_id=job_id, body="b")


def test_a_holder_whose_lease_ended_may_complete_while_nobody_took_over(here: Application, database: str, tmp_path: Path) -> None:
    """The token decides; a pause costs nobody an upload."""
    paused = _reserved(here.idempotency)
    _set(database, "lease_until", "1 second")
    job_id = _job(here, tmp_path, paused)
    assert _begin(here.idempotency) == Replay(job_id=job_id, body="b")


def test_a_key_is_kept_for_72_hours(here: Application, database: str, tmp_path: Path) -> None:
    _job(here, tmp_path, _reserved(here.idempotency))
    _set(database, "created_at", "71 hours")
    assert isinstance(_begin(here.idempotency), Replay)
    _set(database, "created_at", "73 hours")
    assert isinstance(_begin(here.idempotency, "other"), Reservation)


def test_a_job_that_is_not_made_leaves_the_key_unfinished(here: Application, tmp_path: Path) -> None:
    """Key and job appear together or not at all."""
    reservation = _reserved(here.idempotency)

    def within(connection: psycopg.Connection, job_id: JobId) -> None:
        here.idempotency.complete(connection, reservation, "b", job_id)
        raise ValueError("the transaction ends here")

    path = tmp_path / "users.csv"
    path.write_text("email,name\n")
    with pytest.raises(ValueError, match="ends here"):
        here.imports.create("users", str(path), read=ReadOptions(), options=ImportOptions(), within=within)
    with pytest.raises(IdempotencyInProgressError):
        _begin(here.idempotency)


async def _held(keys: Idempotency, reservation: Reservation, database: str) -> bool:
    """Whether the lease is renewed while the request is received."""

    def lease() -> object:
        with psycopg.connect(database) as connection:
            return connection.execute("SELECT lease_until FROM penstock.idempotency_keys").fetchone()

    first = await asyncio.to_thread(lease)
    async with renewing(keys, reservation):
        return await asyncio.to_thread(until, lambda: lease() != first, 10)


def test_the_lease_is_renewed_while_the_request_is_received(here: Application, database: str) -> None:
    keys = Idempotency(here.database, lease_seconds=1)
    assert asyncio.run(_held(keys, _reserved(keys), database))


@pytest.mark.parametrize(
    ("header", "key"),
    [(None, None), ("abc", "abc"), ('"abc"', "abc"), (' "a-b:c" ', "a-b:c"), (r'"a\"b"', 'a"b'), ("x" * 255, "x" * 255), ('"', '"')],
)
def test_a_key_is_bare_or_quoted(header: str | None, key: str | None) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "a b", "x" * 256, "ключ", "a\tb", "a\x7f"])
def test_a_key_is_visible_ascii(header: str) -> None:
    with pytest.raises(InvalidOptionError, match="1 to 255 visible"):
        parse_key(header)


def test_a_fingerprint_does_not_depend_on_the_order() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
