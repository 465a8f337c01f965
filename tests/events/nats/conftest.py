"""A NATS for the tests of this folder, and streams of their own."""

from collections.abc import Iterator

import pytest

from tests.support.nats import NatsServer, nats_server, nats_url, own_stream


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with nats_url() as found:
        yield found


@pytest.fixture
def stream(url: str) -> Iterator[str]:
    with own_stream(url) as name:
        yield name


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """One that the test may kill."""
    with nats_server() as started:
        yield started
