"""EXPORT_DIR: exported files in a folder of their own, seen as one storage with the other."""

from datetime import timedelta
from pathlib import Path

import pytest

from penstock.errors import StorageUnavailableError
from penstock.storage import Key, Storage
from tests.support.storages import opened


def env(folder: Path, **more: str) -> dict[str, str]:
    return {"PENSTOCK_DATA_DIR": str(folder / "data"), "EXPORT_DIR": str(folder / "exported"), **more}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return opened(env(tmp_path))


def test_each_has_its_place(storage: Storage, tmp_path: Path) -> None:
    """Exports lie in EXPORT_DIR without the beginning of their keys, everything else where it always lay; a list has both, in order."""
    for key in ("uploads/1/data.csv", "exports/1/1/users.csv", "exports/1/2/users.csv", "a", "exportsx/1"):
        storage.write(Key(key), [key.encode()])
    assert (tmp_path / "exported/1/2/users.csv").read_bytes() == b"exports/1/2/users.csv"
    assert (tmp_path / "data/storage/uploads/1/data.csv").exists()
    assert storage.local_path(Key("exports/1/1/users.csv")) == tmp_path / "exported/1/1/users.csv"
    assert not (tmp_path / "data/storage/exports").exists()
    keys = [found.key for found in storage.list("")]
    assert keys == ["a", "exports/1/1/users.csv", "exports/1/2/users.csv", "exportsx/1", "uploads/1/data.csv"]
    assert [found.key for found in storage.list("exports/1/1")] == ["exports/1/1/users.csv"]
    storage.delete(Key("exports/1/1/users.csv"))
    storage.delete(Key("exports/1/2/users.csv"))
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == [".partial", ".penstock-storage"]


def test_one_folder_in_the_other(tmp_path: Path) -> None:
    """EXPORT_DIR may be where exports would lie anyway."""
    storage = opened(env(tmp_path, EXPORT_DIR=str(tmp_path / "data/storage/exports")))
    storage.write(Key("exports/1/1/users.csv"), [b"x"])
    storage.write(Key("uploads/1"), [b"x"])
    assert [found.key for found in storage.list("")] == ["exports/1/1/users.csv", "uploads/1"]


def test_leftovers_of_both_are_swept(storage: Storage, tmp_path: Path) -> None:
    """What killed processes left on the way into either."""
    for folder in ("exported", "data/storage"):
        (tmp_path / folder / ".partial" / "left").write_bytes(b"x")
    assert storage.sweep_leftovers(timedelta(hours=1)) == 0
    assert storage.sweep_leftovers(timedelta(0)) == 2


def test_check_looks_at_both(storage: Storage, tmp_path: Path) -> None:
    """An EXPORT_DIR that is gone is named at the start, not by the first export."""
    storage.check()
    (tmp_path / "exported").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailableError, match="EXPORT_DIR"):
        storage.check()


def test_identity_has_both(storage: Storage, tmp_path: Path) -> None:
    """Processes that have another EXPORT_DIR, or none, have another storage."""
    assert opened(env(tmp_path)).identity == storage.identity
    assert opened(env(tmp_path, EXPORT_DIR=str(tmp_path / "other"))).identity != storage.identity
    assert opened({"PENSTOCK_DATA_DIR": str(tmp_path / "data")}).identity != storage.identity


def test_bucket_goes_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a bucket EXPORT_DIR has no effect, which is said once; no folder is made."""
    storage = opened(env(tmp_path, S3_BUCKET="b", AWS_ENDPOINT="http://127.0.0.1:1"))
    assert storage.local_path(Key("exports/a")) is None
    assert sum("EXPORT_DIR has no effect" in record.getMessage() for record in caplog.records) == 1
    assert not (tmp_path / "exported").exists()
