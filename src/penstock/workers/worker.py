"""One worker: carries jobs and applies events, in threads, everything else on the event loop; stops within its time whatever hangs."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from penstock.bootstrap import Application
from penstock.errors import HandedOverError, InvalidStateError, JobNotFoundError, LeaseLostError, PenstockError
from penstock.events.working import EventWorker
from penstock.imports.service import Progress
from penstock.jobs.model import Job, JobId, JobStatus, JobType
from penstock.logs import get_logger, log_context
from penstock.queue.consumer import Consumer
from penstock.workers.housekeeping import Housekeeping
from penstock.workers.packing import Packing
from penstock.workers.room import ExportRoom
from penstock.workers.sweeping import Sweeper

SWEEP_SECONDS = 30.0
HOUSEKEEPING_SECONDS = 3600.0
HOUSEKEEPING_DELAY_SECONDS = 60.0
_RETRY_SECONDS = 5.0
_RESERVE_SECONDS = 1.0  # of the grace, for closing connections after the jobs
_AFTER_DRAINING = 3.5, 0.7  # seconds of the grace, or that part of a short one: what is left when events had their time


class Worker:
    """Carries queued jobs and applies events until told to stop. One for a process; not to be run twice.

    The application's `events` are not closed: their log may be needed for accepting.
    """

    def __init__(self, application: Application) -> None:
        settings = application.settings
        self._settings = settings
        self._lookup = application.jobs
        self._imports = application.imports.for_worker(application.gate)
        self._exports = application.exports
        self._export_room = ExportRoom(application)
        self._handover = threading.Event()
        self._jobs = ThreadPoolExecutor(settings.job_concurrency, thread_name_prefix="penstock-job")
        self._upkeep = ThreadPoolExecutor(3, thread_name_prefix="penstock-upkeep")  # one for each kind
        self._consumer = Consumer(application.database, self._handle, slots=settings.job_concurrency)
        self._packing = Packing(application)
        self._sweeper = Sweeper(application)
        self._housekeeping = Housekeeping(application, self._handover)
        self._events = EventWorker(application.events, settings)

    async def run(self, stop: asyncio.Event, *, silent: asyncio.Event | None = None) -> None:
        """Until `stop` is set, and then for SHUTDOWN_GRACE_SECONDS at most: running jobs are handed over, events that wait are applied.

        `silent`: set once this process accepts no more events; None where it accepts none.
        Returns; outages of the database are waited out. What is raised is a defect.
        """
        sweep_seconds = min(SWEEP_SECONDS, self._settings.import_job_lease_seconds / 3)
        grace = self._settings.shutdown_grace_seconds
        drain_seconds = grace - min(_AFTER_DRAINING[0], grace * _AFTER_DRAINING[1])
        tasks = [
            asyncio.create_task(self._consumer.run(), name="penstock-consumer"),
            asyncio.create_task(self._events.run(stop, silent=silent, drain_seconds=drain_seconds), name="penstock-events"),
            asyncio.create_task(self._again_and_again("sweep", self._sweeper.sweep, 0, sweep_seconds)),
            asyncio.create_task(self._again_and_again("packing", self._packing.catch_up, 0, SWEEP_SECONDS)),
            asyncio.create_task(
                self._again_and_again("housekeeping", self._housekeeping.keep, HOUSEKEEPING_DELAY_SECONDS, HOUSEKEEPING_SECONDS)
            ),
        ]
        stopped = asyncio.create_task(stop.wait())
        get_logger(__name__).info("worker started", slots=self._settings.job_concurrency)
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # they end only by raising
        finally:
            await self._stop(tasks, stopped)

    async def _stop(self, tasks: list[asyncio.Task[None]], stopped: asyncio.Task[Any]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._handover.set()
        self._consumer.stop()
        get_logger(__name__).info("worker stops", running=self._consumer.running)
        grace = self._settings.shutdown_grace_seconds
        if not await self._consumer.finished(max(grace - _RESERVE_SECONDS, grace / 2)):
            get_logger(__name__).error(
                "jobs did not stop in time; another worker takes them when their lease has ended", running=self._consumer.running
            )
        consumer, events, *_ = tasks
        await asyncio.wait([events], timeout=max(0.0, began + grace - _RESERVE_SECONDS - loop.time()) if stopped.done() else 0)
        await asyncio.wait([consumer], timeout=_RESERVE_SECONDS / 2)
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.wait([*tasks, stopped], timeout=_RESERVE_SECONDS / 2)
        self._jobs.shutdown(wait=False, cancel_futures=True)
        self._upkeep.shutdown(wait=False, cancel_futures=True)
        get_logger(__name__).info("worker stopped")

    async def _again_and_again(self, name: str, step: Callable[[], None], delay: float, every: float) -> None:
        """A step that fails is logged and done again: it must not matter where it broke off."""
        await asyncio.sleep(delay)
        while True:
            pause = every
            try:
                await self._in_thread(self._upkeep, step)
            except PenstockError as error:
                get_logger(__name__).warning("upkeep failed and is tried again", step=name, code=error.code, reason=error.message)
                pause = min(every, _RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - logged, and done again by the sweeper
                get_logger(__name__).exception("upkeep failed and is tried again", step=name)
            await asyncio.sleep(pause)

    async def _handle(self, job_id: JobId) -> None:
        with log_context(job_id=job_id):
            await self._in_thread(self._jobs, lambda: self._carry(job_id))

    def _carry(self, job_id: JobId) -> None:
        """One delivery of a job. Whatever comes of it stands in the ledger; nothing is raised."""
        log = get_logger(__name__)
        try:
            job = self._run(job_id)
            if job is None:
                return
        except HandedOverError:
            log.info("job handed over")
        except LeaseLostError as error:
            log.warning("late work dropped: another attempt has the job", code=error.code)
        except (InvalidStateError, JobNotFoundError) as error:
            log.debug("delivery without work", code=error.code, reason=error.message)
        except PenstockError as error:
            log.warning("attempt ended without the job's end", code=error.code, reason=error.message)
        except Exception:
            log.exception("attempt broke")
        else:
            level = log.warning if job.status is JobStatus.FAILED else log.info
            facts = {"rejected": job.failed_rows} if job.type is JobType.IMPORT else {}
            level(
                "job ended",
                type=job.type.value,
                status=job.status.value,
                processed=job.processed_rows,
                request_id=job.request_id,
                **facts,
            )
            if job.type is JobType.IMPORT:
                self._packing.try_to_pack(job_id)

    def _run(self, job_id: JobId) -> Job | None:
        """The finished job; None for an export that is put off. A cancel reaches it through the ledger."""
        cancel, most = threading.Event(), self._settings.max_job_attempts
        if self._lookup.get(job_id).type is JobType.EXPORT:
            with self._export_room.place(job_id) as free:
                return self._exports.run(job_id, cancel=cancel, handover=self._handover, max_attempts=most) if free else None
        return self._imports.run(job_id, progress=_unwatched, cancel=cancel, handover=self._handover, patient=False, max_attempts=most)

    async def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        context = contextvars.copy_context()
        await asyncio.get_running_loop().run_in_executor(pool, context.run, work)


def _unwatched(_progress: Progress) -> None:
    """The ledger has it all."""
