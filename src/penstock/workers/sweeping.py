"""Picking up what was dropped, from the ledger alone: whatever the queue says, an unfinished job comes to a worker again."""

from collections import defaultdict

from penstock.bootstrap import Application
from penstock.jobs.model import JobId, JobType
from penstock.lifecycle.process import ProcessIdentity, is_gone, this_process
from penstock.logs import get_logger
from penstock.workers.turns import SQL, Connection, Turn, turn

PAUSE_SECONDS = 5  # before a job is tried again whose attempt ended by an outage; doubled with each such attempt, 15 minutes at most


class Sweeper:
    """Called again and again, by every worker; may die anywhere."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def sweep(self) -> None:
        """Raises DatabaseError."""
        with turn(self._application.database, Turn.SWEEP) as connection:
            if connection is not None:
                self._wake_dropped(connection)
                self._application.queue.tidy(connection)

    def _wake_dropped(self, connection: Connection) -> None:
        values = {"host": this_process().host, "pause_seconds": PAUSE_SECONDS}
        dropped: dict[JobType, list[JobId]] = defaultdict(list)
        for job_id, kind, host, pid, started, leased in connection.execute(SQL["dropped"], values).fetchall():
            if not leased or is_gone(ProcessIdentity(host, pid, started)):
                dropped[JobType(kind)].append(JobId(str(job_id)))
        for kind, jobs in dropped.items():
            self._application.queue.wake_all(connection, jobs, kind)
            get_logger(__name__).info("jobs that nobody worked on are queued again", type=kind.value, jobs=jobs[:10], count=len(jobs))
