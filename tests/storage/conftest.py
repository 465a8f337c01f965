from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.storages import KINDS, Place, place


@pytest.fixture(params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """One test, every kind of storage."""
    with place(request.param, tmp_path) as made:
        yield made
