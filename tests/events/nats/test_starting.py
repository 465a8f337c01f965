"""Servers and workers look at the stream before they begin."""

from pathlib import Path

import pytest

from tests.events.nats.kit import ask, run
from tests.support.commands import Penstock
from tests.support.serving import free_port


def _environment(database: str, folder: Path, url: str, stream: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database,
        "PENSTOCK_DATA_DIR": str(folder / "data"),
        "HTTP_SERVER_PORT": str(free_port()),
        "NATS_URL": url,
        "NATS_STREAM": stream,
    }


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_nothing_starts_on_a_stream_that_would_lose_events(
    command: str, database: str, tmp_path: Path, url: str, stream: str, run_penstock: Penstock
) -> None:
    """It is said what is wrong with it, instead of answering 503 for ever."""

    async def make() -> None:
        await ask(url, f"STREAM.CREATE.{stream}", config)

    config = {"name": stream, "subjects": [f"{stream}.product"], "retention": "workqueue", "discard": "old"}
    run(make())
    ended = run_penstock(command, env=_environment(database, tmp_path, url, stream))
    assert (ended.returncode, "discard" in ended.stderr) == (2, True), ended.stderr
