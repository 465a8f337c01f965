"""Idempotency keys: a row unique by principal, route and key, reserved while a request is received, completed in its job's transaction."""

import hashlib
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from penstock.database.connect import Database
from penstock.database.queries import load
from penstock.database.sqlstates import translated
from penstock.errors import IdempotencyInProgressError, IdempotencyKeyReusedError, InvalidOptionError
from penstock.jobs.model import JobId

SQL = load("penstock.idempotency", "keys.sql")

Connection = psycopg.Connection[Any]
LEASE_SECONDS = 30
KEEP_HOURS = 72
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """The right to complete the key; lost once the lease has ended and another request took the key over."""

    principal: str
    route: str
    key: str
    token: str
    lease_seconds: int


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The request was made before. `body` is the digest of the bytes that it brought then: one with others is another request."""

    job_id: JobId
    body: str

    def check(self, body: str) -> None:
        """Raises IdempotencyKeyReusedError unless this request brought the same bytes."""
        if body != self.body:
            raise _reused("what its body brought")


class Idempotency:
    """All methods may raise DatabaseError and must not run on the event loop."""

    def __init__(self, database: Database, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    def begin(self, principal: str, route: str, key: str, parameters: str) -> Reservation | Replay:
        """`parameters`: what the request asks, as far as it is known before its body; see `fingerprint`.

        Raises IdempotencyInProgressError while the first request is still being received, IdempotencyKeyReusedError for another request.
        """
        reservation = Reservation(principal=principal, route=route, key=key, token=str(uuid.uuid4()), lease_seconds=self._lease_seconds)
        values = msgspec.structs.asdict(reservation)
        # A key that was released or deleted between the two statements is simply asked for again.
        for _attempt in range(3):
            with self._database.connection() as connection, translated("reserving an idempotency key"):
                if connection.execute(SQL["reserve"], values | {"parameters": parameters, "keep_hours": KEEP_HOURS}).fetchone():
                    return reservation
                with connection.cursor(row_factory=dict_row) as cursor:
                    row = cursor.execute(SQL["find_key"], values).fetchone()
            if row is not None:
                return _judged(row, parameters)
        raise _in_progress(1)

    def renew(self, reservation: Reservation) -> None:
        """Raises IdempotencyInProgressError when another request has taken the key over."""
        with self._database.connection() as connection, translated("renewing an idempotency key"):
            if connection.execute(SQL["renew_key"], msgspec.structs.asdict(reservation)).fetchone() is None:
                raise _in_progress(self._lease_seconds)

    def release(self, reservation: Reservation) -> None:
        """Give the key back; nothing happens if the reservation was completed or lost."""
        with self._database.connection() as connection, translated("releasing an idempotency key"):
            connection.execute(SQL["release_key"], msgspec.structs.asdict(reservation))

    def complete(self, connection: Connection, reservation: Reservation, body_digest: str, job_id: JobId) -> None:
        """In the job's transaction. Raises IdempotencyInProgressError when another request has taken the key over."""
        values = msgspec.structs.asdict(reservation) | {"body": body_digest, "job_id": job_id}
        if connection.execute(SQL["complete_key"], values).fetchone() is None:
            raise _in_progress(self._lease_seconds)


def parse_key(header: str | None) -> str | None:
    """The key of an `Idempotency-Key` header, bare or quoted. Raises InvalidOptionError."""
    if header is None:
        return None
    key = header.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if not _KEY.fullmatch(key):
        raise InvalidOptionError("Idempotency-Key must be 1 to 255 visible ASCII characters, such as a UUID.", option="Idempotency-Key")
    return key


def fingerprint(asked: Mapping[str, Any]) -> str:
    """The same for the same request, however it was written: sha256 over canonical JSON of what `asked` holds."""
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def _judged(row: dict[str, Any], parameters: str) -> Replay:
    if row["job_id"] is None:
        raise _in_progress(row["lease_seconds_left"])
    if row["parameters"] != parameters:
        raise _reused("what it asks for")
    return Replay(job_id=JobId(str(row["job_id"])), body=row["body"])


def _in_progress(seconds: float) -> IdempotencyInProgressError:
    return IdempotencyInProgressError(
        "A request with this Idempotency-Key is still being received. Wait for its answer, or send this one again later.",
        retry_after_seconds=max(1, math.ceil(seconds)),
    )


def _reused(what: str) -> IdempotencyKeyReusedError:
    return IdempotencyKeyReusedError(
        f"This Idempotency-Key was used for another request ({what} was another then). Use a new key for a new request.", differs=what
    )
