"""Following a job: events where they come through, looks where they do not."""

import pytest

from penstock.client import following
from penstock.client.lines import data_of, lines_of
from penstock.errors import JobNotFoundError, OverloadedError
from penstock.jobs.model import JobStatus
from tests.client.conftest import JOB, Scripted, dropping, good, job_json, refusing, streaming


def event(**changes: object) -> bytes:
    return b"event: job\nid: 1\ndata: " + job_json(**changes) + b"\n\n"


EVENTS = "text/event-stream"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LOOK_SECONDS", 0.01)


def test_events_come_one_by_one_until_the_job_has_ended(scripted: Scripted) -> None:
    """Comments and repetitions are passed over; the stream is not asked for more after the end."""
    ended = event(status=JobStatus.COMPLETED, processed_rows=9)
    scripted.answers(streaming(event(), b": still here\n\n", event(), event(processed_rows=5), ended, event(processed_rows=1), kind=EVENTS))
    jobs = list(scripted.client.events(JOB.job_id))
    assert [job.processed_rows for job in jobs] == [0, 5, 9]
    assert jobs[-1].status is JobStatus.COMPLETED
    assert scripted.asked == [("GET", f"/v1/jobs/{JOB.job_id}/events")]


def test_a_lost_stream_is_opened_again(scripted: Scripted) -> None:
    """After a look at the job, which may have ended meanwhile."""
    scripted.answers(
        streaming(event(processed_rows=1), kind=EVENTS),
        good(job_json(processed_rows=2)),
        streaming(event(processed_rows=3), event(status=JobStatus.FAILED, processed_rows=4), kind=EVENTS),
    )
    assert [job.processed_rows for job in scripted.client.events(JOB.job_id)] == [1, 2, 3, 4]


@pytest.mark.parametrize("answer", [refusing(OverloadedError("full"), Retry_After="0"), good(b"<html>"), streaming(b"", whole=True)])
def test_where_no_events_come_the_job_is_asked_for(scripted: Scripted, answer: object) -> None:
    """Whatever something on the way makes of them."""
    looks = [good(job_json(processed_rows=rows)) for rows in (1, 2, 3)]
    ended = good(job_json(status=JobStatus.COMPLETED))

    def routed(handler: object) -> None:
        is_stream = handler.path.endswith("/events")  # type: ignore[attr-defined]
        (answer if is_stream else looks.pop(0) if looks else ended)(handler)  # type: ignore[operator]

    scripted.answers(routed)
    rows = [job.processed_rows for job in scripted.client.events(JOB.job_id)]
    assert rows == [1, 2, 3, 0]


def test_patience_ends(scripted: Scripted) -> None:
    """A server that stays away is told."""
    scripted.answers(refusing(OverloadedError("full"), Retry_After="0"))
    with pytest.raises(OverloadedError):
        list(scripted.client.events(JOB.job_id, patience_seconds=0))


def test_a_job_that_is_gone_is_told_at_once(scripted: Scripted) -> None:
    """Nothing to wait for."""
    scripted.answers(refusing(JobNotFoundError("gone")))
    with pytest.raises(JobNotFoundError):
        list(scripted.client.events(JOB.job_id))
    assert len(scripted.asked) == 2


def test_an_outage_in_the_middle_is_waited_out(scripted: Scripted) -> None:
    """The server was restarted: the following goes on."""
    scripted.answers(
        streaming(event(processed_rows=1), kind=EVENTS),
        *([dropping] * 6),
        good(job_json(processed_rows=2)),
        streaming(event(status=JobStatus.COMPLETED, processed_rows=3), kind=EVENTS),
    )
    assert [job.processed_rows for job in scripted.client.events(JOB.job_id)] == [1, 2, 3]


def test_lines_end_at_line_feeds_only() -> None:
    """Wherever the bytes are cut, and whatever else Unicode takes for the end of a line."""
    text = "ä\u2028b\x85c\x0bd\r\n\nlast"
    data = text.encode()
    for cut in range(len(data) + 1):
        assert [*lines_of([data[:cut], data[cut:]])] == ["ä\u2028b\x85c\x0bd".encode(), b"", b"last"]


def test_data_of_events() -> None:
    """Several data lines are one text; what is not whole is nothing."""
    lines = [b": hello", b"", b"data: a", b"data:b", b"id: 1", b"", b"retry: 1", b"", b"data: cut"]
    assert [*data_of(lines)] == [b"a\nb"]
