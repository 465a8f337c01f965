"""Outages: when the database went away, the attempt begins a new pass from where the ledger says that the job stands.

That is the road that a new attempt takes after a crash. It answers both questions that an outage leaves: whether a COMMIT without a reply
took effect, and whether the server, if it crashed, lost the last commits, which do not wait for its disk.
"""

from collections.abc import Callable
from typing import NamedTuple

import stamina

from penstock.database.sqlstates import is_outage
from penstock.errors import DatabaseUnavailableError
from penstock.logs import get_logger

# How long an outage is waited out before the attempt gives up; the job then waits for the next attempt, nothing is lost.
PATIENCE_SECONDS = 60.0
# Passes in a row that bring not one receipt: then it is no outage but something that our own work does to the server.
FUTILE_PASSES = 10


class Standing(NamedTuple):
    finished: bool
    receipts: int


def through_outages(work: Callable[[bool], None], look: Callable[[], Standing]) -> None:
    """Do the work, again after each outage, and then told to be cautious: the server may crash again before commits that do not wait are on
    its disk. `look` reads the ledger over a new connection.

    Raises DatabaseUnavailableError when the database does not come back, or when passes end in outages without getting on.
    """
    before, futile, cautious = -1, 0, False
    while True:
        try:
            work(cautious)
        except DatabaseUnavailableError as error:
            if error.__cause__ is None or not is_outage(error.__cause__):
                raise
            standing = _come_back(look)
            if standing.finished:
                return
            cautious = True
            before, futile = standing.receipts, futile + 1 if standing.receipts == before else 0
            if futile >= FUTILE_PASSES:
                raise
            get_logger(__name__).warning("the database went away; going on from the ledger", receipts=standing.receipts)
        else:
            return


def _come_back(look: Callable[[], Standing]) -> Standing:
    for attempt in stamina.retry_context(
        on=DatabaseUnavailableError, attempts=None, timeout=PATIENCE_SECONDS, wait_initial=0.05, wait_max=2.0, wait_jitter=0.1
    ):
        with attempt:
            return look()
    raise AssertionError("the retry loop ends by returning or raising")
