"""Previews of files behind URLs, beside everything else that the server does."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.support.serving import Served
from tests.support.waiting import until


@pytest.fixture(scope="module")
def environment(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "FILE_URL_ALLOWED_NETWORKS": "127.0.0.0/8"}


def test_silent_servers_do_not_take_all_threads(served: Served) -> None:
    """More than eight previews at once are told to come again, and other requests are answered meanwhile."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent.settimeout(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.csv"
        asking = stack.enter_context(ThreadPoolExecutor(20))

        def preview() -> httpx.Response:
            return httpx.post(f"{served.http.base_url}/v1/imports/preview", json={"file_url": url}, timeout=60)

        previews = [asking.submit(preview) for _ in range(20)]
        reached = [silent.accept()[0] for _ in range(8)]
        assert served.http.get("/v1/jobs", timeout=20).status_code == 200
        assert until(lambda: sum(each.done() for each in previews) == 12)
        for connection in reached:
            connection.close()
        answers = [each.result(60) for each in previews]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 12
    assert {(answer.json()["error"]["code"], "retry-after" in answer.headers) for answer in refused} == {("overloaded", True)}
    assert {answer.status_code for answer in answers} == {422, 503}
