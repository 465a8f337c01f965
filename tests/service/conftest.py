from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imports.world import World
from tests.service.on_s3 import Fleet
from tests.support.buckets import S3_KINDS, Bucket, own_bucket
from tests.support.commands import Penstock


@pytest.fixture(params=S3_KINDS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    with own_bucket(request.param) as made:
        yield made


@pytest.fixture
def world(durable_database: str, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "resources").mkdir()
    made = World(durable_database, tmp_path / "resources")
    yield made
    made.close()


@pytest.fixture
def fleet(world: World, bucket: Bucket, run_penstock: Penstock, tmp_path: Path) -> Fleet:
    return Fleet(world, tmp_path, run_penstock, bucket.env)
