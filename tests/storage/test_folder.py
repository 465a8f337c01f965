"""What only a folder has: modes, a mark, a disk that fills, an order in which things reach it."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import StorageUnavailableError
from penstock.storage import Key
from penstock.storage.local import LocalStorage
from tests.support.storages import SECRET

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "storage"


def test_modes(folder: Path) -> None:
    """Nobody but the user that runs Penstock can look at it, whatever the umask lets through."""
    old = os.umask(0)
    try:
        LocalStorage(folder, SECRET).write(Key("a/b/c"), [b"x"])
    finally:
        os.umask(old)
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_key_is_a_path(folder: Path) -> None:
    """The file of an object is where its key says, and folders that are empty again are removed."""
    storage = LocalStorage(folder, SECRET)
    storage.write(Key("a/b/c.csv"), [b"x"])
    assert storage.local_path(Key("a/b/c.csv")) == folder / "a/b/c.csv"
    assert (folder / "a/b/c.csv").read_bytes() == b"x"
    storage.delete(Key("a/b/c.csv"))
    assert sorted(path.name for path in folder.iterdir()) == [".partial", ".penstock-storage"]


def test_a_link_out_of_the_folder_is_not_followed(folder: Path) -> None:
    """Somebody who can write to the folder cannot make Penstock read another file by a symbolic link in an object's place."""
    storage = LocalStorage(folder, SECRET)
    (folder / "a").symlink_to("/etc/passwd")
    with pytest.raises(StorageUnavailableError):
        storage.read(Key("a"))


def test_of_many_first_ones_one_names_the_folder(folder: Path) -> None:
    """Processes that come first at once agree on its mark."""
    barrier, found = threading.Barrier(8), []

    def come() -> None:
        barrier.wait(10)
        found.append(LocalStorage(folder, SECRET).identity)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_puts_and_deletes_of_neighbours(folder: Path) -> None:
    """A folder that a delete removes while a put makes it is made again."""
    storage = LocalStorage(folder, SECRET)
    faults: list[Exception] = []

    def again(act: Callable[[], object]) -> None:
        try:
            for _ in range(300):
                act()
        except Exception as fault:  # noqa: BLE001 - whatever it is fails the test
            faults.append(fault)

    def write_and_delete(name: str) -> None:
        storage.write(Key(f"a/b/{name}"), [b"x"])
        storage.delete(Key(f"a/b/{name}"))

    threads = [threading.Thread(target=again, args=(lambda name=name: write_and_delete(name),)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    assert not list(storage.list(""))


def test_on_disk_before_it_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it takes its place, and afterwards every folder on its way."""
    storage = LocalStorage(folder, SECRET)
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(file: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{file}').readlink().relative_to(folder).parts[:1] or 'storage'}")
        sync(file)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    storage.write(Key("a/b"), [b"x"])
    assert steps == ["sync ('.partial',)", "rename", "sync ('a',)", "sync storage"]


def test_a_disk_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails at the sync publishes nothing and leaves nothing."""
    storage = LocalStorage(folder, SECRET)

    def failing(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageUnavailableError, match="Input/output error"):
        storage.write(Key("a"), [b"x"])
    assert not list(storage.list(""))
    assert not list((folder / ".partial").iterdir())


FILL = """
import sys
from pathlib import Path
from penstock.errors import StorageUnavailableError
from penstock.storage import Key
from penstock.storage.local import LocalStorage
folder = Path(sys.argv[1])
storage = LocalStorage(folder, b"")
storage.write(Key("small"), [b"x"])
for act in (lambda: storage.write(Key("large"), [b"x" * 1048576] * 9), storage.check):
    try:
        act()
    except StorageUnavailableError as error:
        print(error.message)
print([found.key for found in storage.list("")], list((folder / ".partial").iterdir()))
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """It is called so; what did not fit leaves nothing behind, and there is room again."""
    mount = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=4m none "$1" && shift && exec "$@"',
        "sh",
    ]
    if subprocess.run([*mount, tmp_path, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces: unshare cannot mount a small disk")
    run = subprocess.run([*mount, tmp_path, sys.executable, "-c", FILL, tmp_path], check=False, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["The disk of the storage folder is full. Make room, then try again.", "['small'] []"], run.stderr


def test_a_folder_that_goes_away(folder: Path) -> None:
    """A folder that is not mounted any more is no storage without objects."""
    storage = LocalStorage(folder, SECRET)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(StorageUnavailableError, match="not there any more"):
        storage.check()
    with pytest.raises(StorageUnavailableError, match="not there any more"):
        list(storage.list(""))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Where a file lies in its place it says which setting to look at."""
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageUnavailableError, match="PENSTOCK_DATA_DIR"):
        LocalStorage(tmp_path / "data" / "storage", SECRET)
