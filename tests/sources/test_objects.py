"""Objects as sources: the bytes of a file wherever they lie, of one version, and on from where a connection broke."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from penstock.errors import FileChangedError, InvalidSourceError, StorageUnavailableError
from penstock.sources import ByteStream, Sources, open_source
from penstock.sources.objects import ObjectSource, open_object
from penstock.sources.places import InStorage, LocalFile, RemoteUrl
from penstock.storage import Key
from tests.support.proxy import Proxy
from tests.support.storages import Place

MIB = 1024 * 1024


def drain(stream: ByteStream, size: int = 300_000) -> bytes:
    out = bytearray()
    while block := stream.read(size):
        assert len(block) <= size
        out += block
    stream.close()
    return bytes(out)


def source_of(stored: Place, data: bytes) -> ObjectSource:
    stored.storage.write(stored.key(), [data])
    return open_object(stored.storage, stored.key(), "a.csv")


@pytest.mark.parametrize("size", [0, 5000, 8 * MIB, 9 * MIB + 7])
def test_as_a_file(stored: Place, tmp_path: Path, size: int) -> None:
    """Size, fingerprint and bytes from any offset are those of a local file with the same bytes; the position follows."""
    data = os.urandom(size)
    (tmp_path / "b.csv").write_bytes(data)
    source, local = source_of(stored, data), open_source(tmp_path / "b.csv")
    assert (source.name, source.size, source.position(), source.local_path()) == ("a.csv", size, 0, None)
    assert source.fingerprint() == local.fingerprint()
    for offset in (0, size // 2, size, size + 5):
        stream = source.open(offset)
        assert source.position() == min(offset, size)
        assert drain(stream) == data[offset:]
    assert source.position() == size
    source.verify(source.identity)


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_changes_are_seen(stored: Place, how: str) -> None:
    """What is not the version that was opened is told by every act, and a stream under way never mixes two."""
    source = source_of(stored, b"1" * (9 * MIB))
    stream = source.open()
    out = stream.read(MIB)
    if how == "replaced":
        stored.storage.write(stored.key(), [b"2" * (9 * MIB)])
    else:
        stored.storage.delete(stored.key())
    for act in (source.verify, source.open, source.fingerprint):
        with pytest.raises(FileChangedError):
            act()
    try:
        out += drain(stream)
    except FileChangedError:
        stream.close()
        assert stored.kind != "folder"
    assert set(out) == {ord("1")}


class Breaking(Proxy):
    """Resets a connection each time so many bytes have come back through it, a few times."""

    breaks, every, passed = 3, 2 * MIB, 0

    def _meets_loss(self, seen: bytes, *, to_server: bool) -> bool:
        self.passed += 0 if to_server else len(seen)
        if self.breaks and self.passed > self.every:
            self.breaks, self.passed = self.breaks - 1, 0
            return True
        return False


def test_broken_connections(stored: Place) -> None:
    """Connections that break in the middle of a block cost time only: each byte is read once, in order."""
    if stored.kind == "folder":
        pytest.skip("a folder has no connections")
    data = os.urandom(9 * MIB)
    stored.storage.write(stored.key(), [data])
    host, _, port = stored.env["AWS_ENDPOINT"].removeprefix("http://").partition(":")
    with Breaking(f"host={host} port={port}") as proxy:
        storage = stored.again(AWS_ENDPOINT=f"http://127.0.0.1:{proxy.port}")
        assert drain(open_object(storage, stored.key(), "a").open()) == data
        assert proxy.breaks == 0


def faulty(source: ObjectSource, faults: int) -> ObjectSource:
    """The same, whose first answers end after one block with an outage."""
    left, blocks = [faults], source._blocks

    def broken(offset: int, length: int) -> Generator[bytes, None, None]:
        for block in blocks(offset, length):
            yield block[:MIB]
            if left[0]:
                left[0] -= 1
                raise StorageUnavailableError("away")
            yield block[MIB:]

    source._blocks = broken  # type: ignore[method-assign]
    return source


def test_it_goes_on_where_it_stood(stored: Place) -> None:
    """After an outage in mid-stream reading goes on behind the last byte that arrived."""
    data = os.urandom(9 * MIB)
    source = source_of(stored, data)
    assert drain(faulty(source, 3).open()) == data


def test_an_outage_is_not_waited_for_for_ever(stored: Place) -> None:
    """A storage that stays away is told after a bounded number of attempts."""
    source = source_of(stored, b"x")

    def away(_offset: int, _length: int) -> Generator[bytes, None, None]:
        raise StorageUnavailableError("away")

    source._blocks = away  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageUnavailableError):
        drain(source.open())


def test_places(stored: Place, tmp_path: Path) -> None:
    """A place leads to its source, called as its sender called it; what lies in a folder is read as the file that it is."""
    (tmp_path / "b.csv").write_bytes(b"b")
    stored.storage.write(stored.key(), [b"a"])
    sources = Sources(lambda: stored.storage)
    assert drain(sources.open(LocalFile(path=str(tmp_path / "b.csv"))).open()) == b"b"
    source = sources.open(InStorage(key=stored.key(), name="users.csv"))
    assert (source.name, drain(source.open())) == ("users.csv", b"a")
    assert (source.local_path() is None) == (stored.kind != "folder")
    for place in (InStorage(key=Key(stored.key("gone")), name="users.csv"), RemoteUrl(url="http://x/users.csv", name="users.csv")):
        with pytest.raises(InvalidSourceError, match=r"users\.csv"):
            sources.open(place)
