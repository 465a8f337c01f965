"""Keep a reservation alive while its request is received."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.errors import DatabaseError, IdempotencyInProgressError
from penstock.idempotency.keys import Idempotency, Reservation
from penstock.logs import get_logger


@asynccontextmanager
async def renewing(idempotency: Idempotency, reservation: Reservation | None) -> AsyncIterator[None]:
    """Renew the lease every third of it. A lease that was lost all the same shows when the reservation is completed."""
    if reservation is None:
        yield
        return
    task = asyncio.create_task(_renew(idempotency, reservation), name="renew idempotency key")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger(__name__).error("renewing an idempotency key broke off", exc_info=error)


async def _renew(idempotency: Idempotency, reservation: Reservation) -> None:
    while True:
        await asyncio.sleep(reservation.lease_seconds / 3)
        try:
            await asyncio.to_thread(idempotency.renew, reservation)
        except IdempotencyInProgressError:
            get_logger(__name__).warning("another request has taken the idempotency key over", route=reservation.route)
            return
        except DatabaseError as error:
            get_logger(__name__).warning("an idempotency key was not renewed, it is tried again", reason=error.message)
