"""Requests that may come twice: the first makes the job, the same one again gets that job."""

from penstock.idempotency.keys import Idempotency, Replay, Reservation, fingerprint, parse_key
from penstock.idempotency.renewing import renewing

__all__ = ["Idempotency", "Replay", "Reservation", "fingerprint", "parse_key", "renewing"]
