"""Local files: what they are called, whether they are still the same, where they may be read from."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import FileChangedError, InvalidSourceError
from penstock.sources import Identity, open_source

MIB = 1024 * 1024


def put(folder: Path, data: bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_name_size_and_position(tmp_path: Path) -> None:
    """The source knows its name without folders, its size, and how far the newest stream has come."""
    source = open_source(put(tmp_path, b"x" * 1000))
    assert (source.name, source.size, source.position()) == ("a.csv", 1000, 0)
    stream = source.open(100)
    assert source.position() == 100
    while stream.read(300):
        pass
    assert source.position() == 1000
    stream.close()


@pytest.mark.parametrize("make", [Path.is_file, Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Nothing, a folder and a pipe are refused at once; the pipe is not waited for."""
    make(tmp_path / "a")
    with pytest.raises(InvalidSourceError):
        open_source(tmp_path / "a")
    with pytest.raises(InvalidSourceError):
        open_source("a\0b")


def test_fingerprint_is_of_the_bytes(tmp_path: Path) -> None:
    """The same bytes under another name have the same fingerprint; any other byte of a small file, or the size, changes it."""
    first = open_source(put(tmp_path, b"a" * 5000)).fingerprint()
    assert first == open_source(put(tmp_path, b"a" * 5000, "b.json")).fingerprint()
    for other in (b"a" * 5001, b"a" * 4999 + b"b", b"a" * 2500 + b"b" + b"a" * 2499):
        assert open_source(put(tmp_path, other)).fingerprint() != first
    assert len(first) == 64


def test_fingerprint_of_a_large_file(tmp_path: Path) -> None:
    """Of a large file its edges and 64 blocks between are covered, and no more is read than these."""
    path = put(tmp_path, b"")
    with path.open("wb") as file:
        file.truncate(300 * MIB)
    source = open_source(path)
    first = source.fingerprint()
    for offset in (0, MIB - 1, MIB, 299 * MIB, 300 * MIB - 1):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"x")
        assert open_source(path).fingerprint() != first
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\0")
    assert open_source(path).fingerprint() == first


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB + 1, 9 * MIB])
def test_fingerprint_around_its_limit(tmp_path: Path, size: int) -> None:
    """Samples lie within the file at any size."""
    source = open_source(put(tmp_path, b"x" * size))
    assert source.fingerprint() == source.fingerprint()


def change(path: Path, how: str) -> None:
    match how:
        case "longer":
            path.write_bytes(b"xx")
        case "touched":
            os.utime(path, ns=(1, 1))
        case "replaced":
            status = path.stat()
            other = put(path.parent, b"x", "other")
            os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
            other.rename(path)
        case _:
            path.unlink()


@pytest.mark.parametrize("how", ["longer", "touched", "replaced", "removed"])
def test_changes_are_seen(tmp_path: Path, how: str) -> None:
    """Another size, time or inode, or no file any more: `verify` and every new stream say so."""
    path = put(tmp_path, b"x")
    source = open_source(path)
    source.verify()
    change(path, how)
    for act in (source.verify, source.open, source.fingerprint):
        with pytest.raises(FileChangedError):
            act()


def test_verify_against_a_stored_identity(tmp_path: Path) -> None:
    """A later process compares with what was stored at the first opening."""
    source = open_source(put(tmp_path, b"x"))
    source.verify(source.identity)
    with pytest.raises(FileChangedError) as caught:
        source.verify(Identity(size=2, version=source.identity.version))
    assert caught.value.details == {"changed": ["size"]}
