"""Picking up what was dropped, from the ledger alone: whatever the queue says, an unfinished job comes to a worker again."""

from penstock.bootstrap import Application
from penstock.imports.process import ProcessIdentity, is_gone, this_process
from penstock.jobs.model import JobId
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
        rows = connection.execute(SQL["dropped"], values).fetchall()
        dropped = [
            JobId(str(job_id)) for job_id, host, pid, started, leased in rows if not leased or is_gone(ProcessIdentity(host, pid, started))
        ]
        if dropped:
            self._application.queue.wake_all(connection, dropped)
            get_logger(__name__).info("jobs that nobody worked on are queued again", jobs=dropped[:10], count=len(dropped))
