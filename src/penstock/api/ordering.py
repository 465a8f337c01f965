"""From a request to a job: what was asked and sent, then one transaction in which the job, its file and its key appear together or not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from penstock.api.problems import REQUEST_ID
from penstock.api.services import AnyRequest, services
from penstock.bootstrap import Application
from penstock.errors import DatabaseError, EmptyFileError, PenstockError
from penstock.exports.model import ExportWishes
from penstock.idempotency import Replay, Reservation, fingerprint, parse_key, renewing
from penstock.imports.ledger import Connection
from penstock.intake.model import ReceivedFile
from penstock.intake.wishes import Wishes
from penstock.jobs.model import Job, JobId
from penstock.logs import get_logger
from penstock.sources.places import InStorage, Place

ANYBODY = "anonymous"  # until requests are signed in


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request, read to its end. `body` is a digest of what its body brought, for its Idempotency-Key."""

    resource: str
    wishes: Wishes
    place: Place | None  # None where the body was only read to see whether it is the same as before
    body: str
    file: ReceivedFile | None = None
    fresh: bool = False  # the file came with this request: if there is no job, there is no file


Read = Callable[[bool], Awaitable[Order]]  # whether to store what is read
Make = Callable[[Reservation | None], Awaitable[Job]]


async def job_of(request: AnyRequest, route: str, parameters: Mapping[str, Any], read: Read) -> tuple[Job, bool]:
    """The import's job, and whether it was made now. `parameters` is what is known of the request before its body.

    Raises IdempotencyError and whatever `read` and the services raise; then there is no job, no file, and the key is free again.
    """

    async def make(reservation: Reservation | None) -> Job:
        return await _made(request, await read(True), reservation)

    async def digest() -> str:
        return (await read(False)).body

    return await once(request, route, parameters, make, digest)


async def export_of_wishes(request: AnyRequest, route: str, wishes: ExportWishes) -> tuple[Job, bool]:
    """The export's job, and whether it was made now. Raises IdempotencyError and whatever the services raise."""

    async def make(reservation: Reservation | None) -> Job:
        return await asyncio.to_thread(_create_export, application, wishes, reservation, request.scope["state"][REQUEST_ID])

    async def digest() -> str:
        return ""

    application = services(request).application
    return await once(request, route, msgspec.to_builtins(wishes), make, digest)


async def once(
    request: AnyRequest, route: str, parameters: Mapping[str, Any], make: Make, digest: Callable[[], Awaitable[str]]
) -> tuple[Job, bool]:
    """What `make` makes, or what the same request with the same Idempotency-Key has made before.

    `make` completes the reservation in its job's transaction; `digest` is that of what the body brings beside `parameters`.
    """
    application = services(request).application
    key = parse_key(",".join(request.headers.getall("idempotency-key", [])) or None)
    if key is None:
        return await make(None), True
    begun = await asyncio.to_thread(application.idempotency.begin, ANYBODY, route, key, fingerprint(parameters))
    if isinstance(begun, Replay):
        begun.check(await digest())
        return await asyncio.to_thread(application.jobs.get, begun.job_id), False
    try:
        async with renewing(application.idempotency, begun):
            return await make(begun), True
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_released, application, begun))
        raise


def in_storage(file: ReceivedFile) -> InStorage:
    """Raises EmptyFileError."""
    if file.size == 0:
        raise EmptyFileError(f"{file.name} is empty: it has no bytes. Send the file.")
    return InStorage(key=file.key, name=file.name)


async def _made(request: AnyRequest, order: Order, reservation: Reservation | None) -> Job:
    application = services(request).application
    try:
        return await asyncio.to_thread(_create, application, order, reservation, request.scope["state"][REQUEST_ID])
    except BaseException:
        # A job that was made in spite of this keeps its file: only a file without a job is removed.
        if order.file is not None and order.fresh:
            await asyncio.shield(asyncio.to_thread(discarded, application, order.file))
        raise


def _create(application: Application, order: Order, reservation: Reservation | None, request_id: str) -> Job:
    def within(connection: Connection, job_id: JobId) -> None:
        if order.file is not None:
            application.files.attach(connection, order.file, job_id)
        if reservation is not None:
            application.idempotency.complete(connection, reservation, order.body, job_id)

    assert order.place is not None
    return application.imports.create(
        order.resource,
        order.place,
        read=order.wishes.read,
        options=order.wishes.options,
        request_id=request_id,
        principal=ANYBODY,
        queued=True,
        within=within,
    )


def _create_export(application: Application, wishes: ExportWishes, reservation: Reservation | None, request_id: str) -> Job:
    def within(connection: Connection, job_id: JobId) -> None:
        if reservation is not None:
            application.idempotency.complete(connection, reservation, "", job_id)

    return application.exports.create(wishes, request_id=request_id, principal=ANYBODY, within=within)


def discarded(application: Application, file: ReceivedFile) -> None:
    """Remove a file that came to nothing. What cannot be removed now is left to housekeeping, which finds it by its row."""
    try:
        application.files.discard(file)
    except PenstockError as error:
        get_logger(__name__).warning("a file that came to nothing is left to housekeeping", key=file.key, reason=error.message)


def _released(application: Application, reservation: Reservation) -> None:
    try:
        application.idempotency.release(reservation)
    except DatabaseError as error:
        get_logger(__name__).warning("an idempotency key is free only when its lease ends", reason=error.message)
