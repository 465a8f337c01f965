"""Clearing away what is past its time, in small steps that may break off anywhere and are done again.

The order of each step is object first, then its row: a row without an object is harmless, an object without a row is never found again.
"""

import threading
from collections.abc import Callable
from datetime import timedelta

from penstock.bootstrap import Application
from penstock.crashpoints import CrashPoint, reach
from penstock.database.connect import Limits
from penstock.database.sqlstates import translated
from penstock.errors import StorageError
from penstock.logs import get_logger
from penstock.storage.model import Key
from penstock.workers.turns import SQL, Turn, turn

LEFTOVER_AGE = timedelta(days=1)  # longer than any upload may take
_BATCH = 20  # files whose rows are held while their objects are removed
_PAGES = 256  # of event_ids looked through by one statement: 2 MiB, some 25,000 ids
_LONG = Limits(statement=3600)  # a job's end takes its rejected records with it
_PATIENT = Limits(idle_in_transaction=3600)  # storage may take its time to remove a batch


class Housekeeping:
    """`stopping` ends it after the step under way."""

    def __init__(self, application: Application, stopping: threading.Event) -> None:
        self._application = application
        self._stopping = stopping

    def keep(self) -> None:
        """Everything that is due. Raises DatabaseError, StorageError."""
        with turn(self._application.database, Turn.HOUSEKEEPING) as mine:
            if mine is None:
                return
            # The turn's own transaction does nothing and must outlive the steps.
            mine.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            removed = {
                "jobs": self._until_done(self.forget_job),
                "keys": self._until_done(self.forget_keys),
                "event_ids": self.forget_event_ids(),
                "leftovers": self._application.storage.sweep_leftovers(LEFTOVER_AGE),
                "files": self._until_done(self.forget_files),
            }
        if any(removed.values()):
            get_logger(__name__).info("cleared away", **removed)

    def _until_done(self, step: Callable[[], int]) -> int:
        total = 0
        while not self._stopping.is_set() and (done := step()):
            total += done
        return total

    def forget_job(self) -> int:
        """One finished job past its days, with its books; its files are due then. How many jobs."""
        values = {"job_days": self._application.settings.job_retention_days}
        with (
            self._application.database.connect(autocommit=True, limits=_LONG) as connection,
            translated("removing old jobs"),
            connection.transaction(),
        ):
            row = connection.execute(SQL["old_job"], values).fetchone()
            if row is None:
                return 0
            connection.execute(SQL["expire_files_of"], {"job_id": row[0]})
            connection.execute(SQL["forget_job"], {"job_id": row[0]})
        return 1

    def forget_files(self) -> int:
        """Files past their time that no unfinished job needs; how many. One that cannot be removed is put off for an hour before the
        StorageError is raised, so that it does not keep the others.
        """
        with (
            self._application.database.connect(autocommit=True, limits=_PATIENT) as connection,
            translated("removing files"),
            connection.transaction(),
        ):
            keys = [Key(key) for (key,) in connection.execute(SQL["expired_files"], {"limit": _BATCH})]
            connection.execute(SQL["forget_reports"], {"keys": keys})
            gone, fault = self._removed(keys)
            connection.execute(SQL["forget_files"], {"keys": keys[:gone]})
            if fault is not None:
                connection.execute(SQL["put_off_file"], {"key": keys[gone]})
        if fault is not None:
            raise fault
        return gone

    def _removed(self, keys: list[Key]) -> tuple[int, StorageError | None]:
        """How many are gone, in their order, and what kept the next one."""
        for gone, key in enumerate(keys):
            try:
                self._application.storage.delete(key)
            except StorageError as error:
                return gone, error
            reach(CrashPoint.FILE_REMOVED)
        return len(keys), None

    def forget_keys(self) -> int:
        """Idempotency keys after 72 hours; how many."""
        with self._application.database.connect(autocommit=True) as connection, translated("removing idempotency keys"):
            return connection.execute(SQL["forget_keys"]).rowcount

    def forget_event_ids(self) -> int:
        """Those of events that were applied more than EVENT_ID_RETENTION_HOURS ago; how many. Each step holds few of them, for moments:
        an event that comes with one of them again waits for it.
        """
        hours, removed = self._application.settings.event_id_retention_hours, 0
        with self._application.database.connect(autocommit=True) as connection, translated("removing ids of events"):
            row = connection.execute(SQL["event_id_pages"]).fetchone()
            assert row is not None
            for first in range(0, row[0], _PAGES):
                if self._stopping.is_set():
                    break
                values = {"first": first, "beyond": first + _PAGES, "hours": hours}
                removed += connection.execute(SQL["forget_event_ids"], values).rowcount
        return removed
