"""What a job must be after what happened to it: a small model, and the records of its file."""

from dataclasses import dataclass, field
from typing import Any

from penstock.jobs.model import JobStatus
from tests.imports.checker import letters
from tests.service.stepping import Attempt, Stop

P, R, C, F, X = JobStatus.PENDING, JobStatus.PROCESSING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED
LEGAL = {P: {P, R, X, F}, R: {R, C, F, X}, C: {C}, F: {F, P}, X: {X, P}}
RECORDS, BAD_EVERY, TWIN_EVERY = 90, 7, 11  # four waves of chunks of 400 bytes


@dataclass
class Known:
    """What the model says of one job."""

    number: int
    queued: bool
    export: bool = False
    status: JobStatus = P
    attempts: int = 0
    excused: int = 0
    epoch: int = 0
    cancel: bool = False  # asked for
    leased: bool = False  # the last attempt has not ended, and its lease lives
    gone: bool = False  # its process is known to be
    pausing: bool = False  # it said why it ended, a moment ago
    waiting: int = 0  # entries in the queue
    owner: Attempt | None = field(default=None, repr=False)

    @property
    def owned(self) -> bool:
        return self.leased and not self.gone

    @property
    def free(self) -> bool:
        return not self.status.finished and not self.owned

    @property
    def closing(self) -> bool:
        """Whether its attempt stands still in the transaction that ends it: what changes the job waits for that, bounded."""
        return self.owner is not None and self.owner.at is Stop.CLOSING

    @property
    def dropped(self) -> bool:
        """Whether a sweeper wakes it."""
        return self.queued and not self.status.finished and not self.owned and not self.pausing and not self.waiting

    def begun(self, owner: Attempt) -> None:
        self.status, self.owner = R, owner
        self.attempts, self.epoch = self.attempts + 1, self.epoch + 1
        self.leased, self.gone, self.pausing = True, False, False
        owner.epoch = self.epoch

    def over(self, status: JobStatus | None = None) -> None:
        """The attempt ended, with the job or without it."""
        self.owner, self.leased, self.pausing = None, False, False
        self.status = status or self.status


def record(job: int, row: int) -> dict[str, Any]:
    """Record 1 and so on. Some are bad, some have the key of the one before."""
    twin = row - 1 if row % TWIN_EVERY == 0 and (row - 1) % BAD_EVERY else row
    title = "far too long a title" if row % BAD_EVERY == 0 else f"t{row}"
    return {"code": letters(job * RECORDS + twin), "title": title, "parts": [{"label": "p"}]}
