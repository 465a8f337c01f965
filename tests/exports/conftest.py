from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exports.checker import fill
from tests.workers.site import Site


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[Site]:
    """With a thousand things in it."""
    made = Site(database, tmp_path)
    fill(made.world)
    yield made
    made.close()
