from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.site import Site


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(database, tmp_path)
    yield made
    made.close()


@pytest.fixture
def durable_site(durable_database: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(durable_database, tmp_path)
    yield made
    made.close()
