"""What this process has done with the events that were sent to it."""

from collections import Counter

from penstock.errors import InvalidEventError, PenstockError, QueueFullError


class Tally:
    """What this process has done with events that were sent to it. Used on one event loop."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = Counter(dict.fromkeys((InvalidEventError.code, QueueFullError.code), 0))  # by code

    def refuse(self, error: Exception, events: int = 1) -> None:
        self.refused[error.code if isinstance(error, PenstockError) else PenstockError.code] += events
