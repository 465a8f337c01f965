"""Following jobs: every change, one query however many follow, an end in every case."""

import asyncio
import threading
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest

from penstock.api import events
from penstock.api.events import Hub
from penstock.bootstrap import Application
from penstock.errors import DatabaseUnavailableError, OverloadedError
from penstock.jobs.model import JobId
from tests.api.conftest import MakeJob
from tests.support.serving import Served


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield msgspec.json.decode(line.removeprefix("data: "))


def test_a_job_is_followed_to_its_end(http: httpx.Client, here: Application, make_job: MakeJob) -> None:
    """The job at once, then as it changes; the stream ends with the job."""
    job = make_job("follow@example.com,F", run=False)
    with http.stream("GET", f"/v1/jobs/{job.job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        followed = _events(answer)
        assert next(followed)["status"] == "PENDING"
        here.imports.run(job.job_id, progress=lambda _: None, cancel=threading.Event())
        states = [view["status"] for view in followed]
    assert states[-1] == "COMPLETED"


def test_a_follower_may_leave(served: Served, http: httpx.Client, make_job: MakeJob) -> None:
    """Its stream ends with it, though the job does not."""
    job = make_job("leave@example.com,L", run=False)
    with http.stream("GET", f"/v1/jobs/{job.job_id}/events", headers={"X-Request-ID": "leaver"}) as answer:
        assert next(_events(answer))["status"] == "PENDING"
    assert served.logged("request", request_id="leaver", route="/v1/jobs/{job_id}/events")


def test_a_finished_job_is_told_once(http: httpx.Client, make_job: MakeJob) -> None:
    """One event, and the end."""
    job = make_job("over@example.com,O")
    answer = http.get(f"/v1/jobs/{job.job_id}/events")
    assert [view["job_id"] for view in _events(answer)] == [job.job_id]
    assert answer.text.startswith("event: job\nid: ")


def test_a_job_that_is_not_there(http: httpx.Client) -> None:
    """A problem, not a stream."""
    assert http.get("/v1/jobs/x/events").json()["error"]["code"] == "invalid_id"
    answer = http.get("/v1/jobs/0b6fd5a1-3f0c-4c5e-9d3e-6a1b2c3d4e5f/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


class Looks:
    """The changes of real jobs, counted; `away` makes the database fail."""

    def __init__(self, here: Application) -> None:
        self.here, self.asked, self.away = here, list[int](), False

    def changes(self, job_ids: Collection[JobId]) -> dict[JobId, datetime]:
        self.asked.append(len(job_ids))
        if self.away:
            raise DatabaseUnavailableError("away")
        return self.here.imports.changes(job_ids)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(events, "_PATIENCE_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_a_thousand_listeners_cost_one_query(here: Application, make_job: MakeJob) -> None:
    """Each look asks once for all jobs that are followed, and every listener gets the news, also after an outage."""
    jobs = [make_job(f"hub{number}@example.com,H", run=False) for number in range(4)]
    looks = Looks(here)

    async def follow() -> None:
        hub = Hub(looks.changes, here.imports.get, stopping=asyncio.Event(), most_listeners=1000)
        async with AsyncExitStack() as stack:
            listeners = [await stack.enter_async_context(hub.listener(jobs[number % 4])) for number in range(1000)]
            with pytest.raises(OverloadedError):
                hub.check_room()
            looks.away = True
            await asyncio.to_thread(here.imports.cancel, jobs[0].job_id)
            looks.away = False
            news = await asyncio.gather(*(listener.next(10) for listener in listeners[::4]))
            assert {job.status for job in news if job} == {"CANCELLED"}
            assert len(news) == 250
        assert hub.listening == 0

    asyncio.run(follow())
    assert set(looks.asked) == {4}


@pytest.mark.usefixtures("quick")
def test_listeners_end_with_the_process(here: Application, make_job: MakeJob) -> None:
    """A stop ends them at once, even while a look hangs; nobody is let in afterwards."""
    job = make_job("stop@example.com,S", run=False)
    hanging = threading.Event()
    looked = threading.Event()

    def hang(_job_ids: Collection[JobId]) -> dict[JobId, datetime]:
        looked.set()
        hanging.wait(20)
        return {}

    async def follow() -> None:
        stopping = asyncio.Event()
        hub = Hub(hang, here.imports.get, stopping=stopping)
        async with hub.listener(job) as listener:
            assert await asyncio.to_thread(looked.wait, 10)
            stopping.set()
            assert await listener.next(10) is None
            assert listener.over
        hanging.set()
        with pytest.raises(OverloadedError):
            hub.check_room()

    asyncio.run(follow())


@pytest.mark.usefixtures("quick")
def test_a_job_that_was_removed_ends_its_listeners(here: Application, make_job: MakeJob) -> None:
    """Nobody waits for the news of a job that is no more."""
    job = make_job("gone@example.com,G", run=False)

    async def follow() -> None:
        hub = Hub(lambda _: {}, here.imports.get, stopping=asyncio.Event())
        async with hub.listener(job) as listener:
            assert await listener.next(10) is None
            assert listener.over

    asyncio.run(follow())
