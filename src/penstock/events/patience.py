"""What becomes of an event that PostgreSQL did not take: tried again later, or a dead letter.

==========  ===============================================================  ========================================================
failure     when                                                             what becomes of the event
==========  ===============================================================  ========================================================
away        the server is away or its disk is full                           nothing: the whole batch comes again, and no try counts
LOCKED      somebody else has the product's row, an import maybe             tried again; a dead letter once it was tried
                                                                             MAX_RETRY_ATTEMPTS times and is a day old
PASSING     a deadlock, a serialization failure, a cancelled statement       tried again; a dead letter after MAX_RETRY_ATTEMPTS tries
FOR_GOOD    PostgreSQL will refuse it the same way next time                 a dead letter
==========  ===============================================================  ========================================================
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

import psycopg

from penstock.database.sqlstates import Fault, classify
from penstock.events.model import Entry, Event, Retry
from penstock.events.postgres.faults import translate
from penstock.settings import Settings

INVALID_EVENT = "invalid_event"  # what the log held is no event
REFUSED_BY_DATABASE = "refused_by_database"
RETRIES_EXHAUSTED = "retries_exhausted"

_LOCK_TIMEOUT, _QUERY_CANCELED = "55P03", "57014"
# Waiting for a row is no failure of the event, and an import in one transaction holds its rows for as long as it takes. What nobody lets
# go of in that time is for a person to look at.
_LOCKED_FOR = timedelta(days=1)
_MOST_DOUBLINGS = 32
_DOING = "events were applied"


class Failure(Enum):
    LOCKED = "locked"
    PASSING = "passing"
    FOR_GOOD = "for good"


@dataclass(frozen=True, slots=True)
class Death:
    code: str
    reason: str


def failure_of(error: psycopg.Error) -> Failure:
    """Raises DatabaseUnavailableError for what is no event's fault and passes."""
    fault = classify(error)
    if fault in (Fault.OUTAGE, Fault.DISK_FULL):
        raise translate(error, doing=_DOING) from error
    if error.sqlstate == _LOCK_TIMEOUT:
        return Failure.LOCKED
    return Failure.PASSING if fault is Fault.CONFLICT or error.sqlstate == _QUERY_CANCELED else Failure.FOR_GOOD


def name_of(error: psycopg.Error) -> str:
    """What kind of error it is, and by which constraint; nothing of what it says, which may quote a row."""
    parts = [type(error).__name__]
    if error.sqlstate:
        parts.append(f"SQLSTATE {error.sqlstate}")
    if error.diag.constraint_name:
        parts.append(f"constraint {error.diag.constraint_name}")
    return ", ".join(parts)


class Patience:
    """By the settings: how long until an event is tried again, and when it is given up."""

    def __init__(self, settings: Settings) -> None:
        self._most_tries = settings.max_retry_attempts
        self._first_seconds = settings.initial_retry_delay
        self._most_seconds = settings.max_retry_delay

    def retry(self, attempts: int) -> Retry:
        """After `attempts` tries that failed before this one: at most the first pause doubled so often, and by chance, so that what failed
        together does not come back together.
        """
        longest = min(self._most_seconds, self._first_seconds * 2 ** min(attempts, _MOST_DOUBLINGS))
        return Retry(random.uniform(0, longest))  # noqa: S311 - no secret

    def fate(self, entry: Entry, error: psycopg.Error) -> Retry | Death:
        failure = failure_of(error)
        if failure is Failure.FOR_GOOD:
            return Death(REFUSED_BY_DATABASE, f"PostgreSQL refused it ({name_of(error)}).")
        tries = entry.attempts + 1
        if tries < self._most_tries or (failure is Failure.LOCKED and not _waited_long(entry)):
            return self.retry(entry.attempts)
        return Death(RETRIES_EXHAUSTED, f"It was tried {tries} times; the last try ended with {name_of(error)}.")


def _waited_long(entry: Entry) -> bool:
    return isinstance(entry.content, Event) and datetime.now(UTC) - entry.content.accepted_at >= _LOCKED_FOR
