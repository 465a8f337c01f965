"""Real attempts at jobs that go on step by step, as a test says; all others stand still meanwhile, whatever they hold."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Self
from unittest.mock import patch

from penstock import crashpoints
from penstock.crashpoints import CrashPoint
from penstock.errors import StorageUnavailableError
from penstock.exports.service import Exports
from penstock.imports.service import Imports, Progress
from penstock.jobs.model import Job, JobId
from penstock.lifecycle import claiming
from penstock.lifecycle.process import ProcessIdentity

_STEP_SECONDS = 30


class Stop(StrEnum):
    """Where an attempt may be told to stand still next."""

    CLAIMED = CrashPoint.JOB_CLAIMED
    WRITTEN = CrashPoint.PARTITION_MERGED  # a unit's transaction is open, with its rows and its receipt
    COMMITTED = CrashPoint.PARTITION_COMMITTED  # the other unit of the wave is still to come, or the progress
    BOOKED = "booked"  # after a wave, with its progress reported
    CLOSING = CrashPoint.JOB_COMPLETING  # the transaction that ends the job is open
    END = "end"


# An export stands still where its snapshot is open, where its file is whole and nobody knows of it, and where that is about to change.
_OF_EXPORTS = {
    CrashPoint.EXPORT_COUNTED: Stop.WRITTEN,
    CrashPoint.EXPORT_WRITTEN: Stop.COMMITTED,
    CrashPoint.EXPORT_COMPLETING: Stop.CLOSING,
}


class DiedError(BaseException):
    """The process is killed: nothing catches it, and what was not committed goes."""


class Attempt:
    """One delivery of a job to a process, in a thread. It moves only inside `go`."""

    moving: "Attempt | None" = None  # one at a time, so that whatever comes by a crash point belongs to it

    def __init__(self, service: Imports | Exports, job_id: JobId, identity: ProcessIdentity, *, max_attempts: int | None) -> None:
        self.job_id, self.identity = job_id, identity
        self.epoch = 0  # set by the test, once it is claimed
        self.cancel, self.handover = threading.Event(), threading.Event()
        self.at: Stop | None = None  # None: ended
        self.result: Job | BaseException | None = None
        self.seen_rows = 0  # of the file, by its last progress
        self._until = Stop.CLAIMED
        self._order: BaseException | None = None
        self._go, self._still = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=[service, max_attempts], name="attempt", daemon=True)

    def start(self) -> Self:
        """Up to the claim, or to its end if there is nothing to claim."""
        Attempt.moving = self
        self._thread.start()
        self._wait()
        return self

    def go(self, until: Stop, order: BaseException | None = None) -> None:
        """On from where it stands, up to the next such place or its end. An order is raised where it stands."""
        assert self.at is not None
        self._until, self._order, Attempt.moving = until, order, self
        self._go.release()
        self._wait()

    def die(self) -> None:
        self.go(Stop.END, DiedError())

    def break_off(self) -> None:
        self.go(Stop.END, StorageUnavailableError("the bucket is away"))

    def reached(self, place: str) -> None:
        """Called in one of its threads."""
        if place != self._until:
            return
        self.at = Stop(place)
        self._still.release()
        self._go.acquire()
        order, self._order = self._order, None
        if order is not None:
            raise order

    def _wait(self) -> None:
        assert self._still.acquire(timeout=_STEP_SECONDS), f"neither stands still nor ends; was last at {self.at}"
        Attempt.moving = None
        if self.result is not None:
            self._thread.join(_STEP_SECONDS)

    def _run(self, service: Imports | Exports, max_attempts: int | None) -> None:
        try:
            if isinstance(service, Exports):
                self.result = service.run(self.job_id, cancel=self.cancel, handover=self.handover, max_attempts=max_attempts)
            else:
                self.result = service.run(
                    self.job_id,
                    progress=self._booked,
                    cancel=self.cancel,
                    handover=self.handover,
                    patient=False,
                    max_attempts=max_attempts,
                )
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.result = error
        self.at = None
        self._still.release()

    def _booked(self, progress: Progress) -> None:
        self.seen_rows = progress.processed_rows
        self.reached(Stop.BOOKED)


def _reach(point: CrashPoint) -> None:
    if Attempt.moving is not None:
        Attempt.moving.reached(_OF_EXPORTS.get(point, point))


def _identity() -> ProcessIdentity:
    assert Attempt.moving is not None
    return Attempt.moving.identity


@contextmanager
def stepping() -> Iterator[None]:
    """Attempts stop at crash points, and claim as the process that they are told to be."""
    with patch.object(crashpoints, "_reach", _reach), patch.object(claiming, "this_process", _identity):
        yield
