"""A job's changes, by server-sent events where they come through, else by asking."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from penstock.errors import PenstockError
from penstock.jobs.model import Job

_LOOK_SECONDS = 1.0
SERVERS_OWN = 500  # from this status on an error says nothing about the job
_FUTILE_STREAMS = 2  # in a row without an event: something between holds them back


def followed(listen: Callable[[], Iterator[Job]], look: Callable[[], Job], *, patience_seconds: float) -> Iterator[Job]:
    """`listen` opens the stream of events, `look` asks for the job. Each change once, the ended job last."""
    last: Job | None = None
    futile = 0
    while True:
        heard = False
        if futile < _FUTILE_STREAMS:
            with closing(_until_lost(listen)) as stream:
                for job in stream:
                    heard = True
                    if job != last:
                        yield (last := job)
                    if job.status.finished:
                        return
            futile = 0 if heard else futile + 1
        job = _patiently(look, patience_seconds)
        if job != last:
            yield (last := job)
        if job.status.finished:
            return
        if not heard:
            time.sleep(_LOOK_SECONDS)


def _until_lost(listen: Callable[[], Iterator[Job]]) -> Generator[Job, None, None]:
    """What is heard before the stream ends, is lost or is refused; whether that is worth an error, the next look tells."""
    try:
        yield from listen()
    except PenstockError:
        return


def _patiently(look: Callable[[], Job], seconds: float) -> Job:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look()
        except PenstockError as error:
            if error.http_status < SERVERS_OWN or time.monotonic() >= deadline:
                raise
        time.sleep(_LOOK_SECONDS)
