"""What storage promises, held by a folder, by Swift and by LocalStack alike."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, closing
from datetime import timedelta

import obstore
import pytest

from penstock.errors import ObjectNotFoundError, StorageUnavailableError
from penstock.storage import Key, Method, Storage
from tests.support.storages import Place

MIB = 1024 * 1024
PATTERN = bytes(range(251)) * 4179  # about a MiB in which no offset looks like another nearby


def chunks(size: int, chunk: int = 400_000) -> Iterator[bytes]:
    data = itertools.cycle(PATTERN)
    for start in range(0, size, chunk):
        yield bytes(itertools.islice(data, min(chunk, size - start)))


async def flowing(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def put(storage: Storage, key: Key, pieces: Iterable[bytes]) -> None:
    asyncio.run(storage.put(key, flowing(pieces)))


def whole(storage: Storage, key: Key) -> bytes:
    return b"".join(storage.read(key))


@pytest.mark.parametrize("size", [0, 1, 400_001, 9 * MIB + 3])
@pytest.mark.parametrize("way", ["put", "write"])
def test_what_was_stored_is_read(stored: Place, size: int, way: str) -> None:
    """Any number of bytes, by a stream or from a thread, comes back as it was, and is described as it lies there."""
    key, storage = stored.key("folder/data.csv.gz"), stored.storage
    made = asyncio.run(storage.put(key, flowing(chunks(size)))) if way == "put" else storage.write(key, chunks(size))
    assert (made.key, made.size) == (key, size)
    assert storage.stat(key) == made
    assert whole(storage, key) == b"".join(chunks(size))


def test_ranges(stored: Place) -> None:
    """Any part is read, by threads and by streams: across blocks, up to the end, past it, none."""
    key, storage = stored.key(), stored.storage
    data = b"".join(chunks(9 * MIB))
    storage.write(key, [data])

    async def streamed(offset: int, length: int | None) -> bytes:
        return b"".join([block async for block in await storage.stream(key, offset, length)])

    for offset, length in (
        (0, 1),
        (8 * MIB - 1, 2),
        (5, 8 * MIB),
        (9 * MIB - 3, None),
        (9 * MIB - 3, 100),
        (9 * MIB, 5),
        (10 * MIB, None),
        (3, 0),
    ):
        expected = data[offset : None if length is None else offset + length]
        assert b"".join(storage.read(key, offset, length)) == expected
        assert asyncio.run(streamed(offset, length)) == expected


def test_what_is_not_there(stored: Place) -> None:
    """Describing or reading it says so at once; removing it is no error, and what was removed is gone."""
    key, storage = stored.key(), stored.storage
    storage.write(key, [b"x"])
    for _ in range(2):
        storage.delete(key)
    for act in (storage.stat, storage.read, lambda key: asyncio.run(storage.stream(key))):
        with pytest.raises(ObjectNotFoundError):
            act(key)
    with pytest.raises(ObjectNotFoundError):
        storage.stat(Key(stored.prefix))  # a folder is no object


def test_a_reader_may_stop(stored: Place) -> None:
    """A reader that is closed before its end, or before its beginning, leaves nothing open."""
    key, storage = stored.key(), stored.storage
    storage.write(key, chunks(3 * MIB))
    storage.read(key).close()
    with closing(storage.read(key)) as blocks:
        next(blocks)

    async def peek() -> None:
        async with aclosing(await storage.stream(key)) as stream:
            await anext(stream)

    asyncio.run(peek())


def test_list_is_in_the_order_of_keys(stored: Place) -> None:
    """Keys come in the order of their characters, whatever folders they are in; a prefix may end inside a name."""
    names = ["a.b", "a/b", "a/b-c", "a/b/c", "a0", "ab/z", "b"]
    for name in reversed(names):
        if (stored.kind, name) != ("folder", "a/b"):  # a folder cannot hold a file and a folder of one name
            stored.storage.write(stored.key(name), [name.encode()])
    kept = [name for name in names if (stored.kind, name) != ("folder", "a/b")]
    assert stored.keys() == [stored.key(name) for name in kept]
    found = [found.key for found in stored.storage.list(stored.key("a/b"))]
    assert found == [stored.key(name) for name in kept if name.startswith("a/b")]
    assert not list(stored.storage.list(stored.key("zzz")))
    one = next(stored.storage.list(stored.key("b")))
    assert one == stored.storage.stat(stored.key("b"))


def test_a_version_is_pinned(stored: Place) -> None:
    """What replaces an object has another version, and who asked for the first one is refused."""
    key, storage = stored.key(), stored.storage
    first, second = storage.write(key, [b"one"]), storage.write(key, [b"two"])
    assert first.version != second.version
    assert b"".join(storage.read(key, version=second.version)) == b"two"
    with pytest.raises(ObjectNotFoundError):
        storage.read(key, version=first.version)


def test_a_reader_never_mixes_versions(stored: Place) -> None:
    """Replaced under a reader, an object goes on as it was or the reader is told; never the beginning of one and the end of another."""
    key, storage = stored.key(), stored.storage
    storage.write(key, itertools.repeat(b"1" * MIB, 9))
    with closing(storage.read(key)) as blocks:
        out = [next(blocks)]
        storage.write(key, itertools.repeat(b"2" * MIB, 9))
        try:
            out.extend(blocks)
        except ObjectNotFoundError:
            assert stored.kind != "folder"
    assert set(b"".join(out)) == {ord("1")}


class BrokenError(Exception):
    """Of whoever sends."""


def breaking(size: int) -> Iterator[bytes]:
    yield from chunks(size)
    raise BrokenError


@pytest.mark.parametrize("size", [0, 1000, 9 * MIB])
def test_a_broken_stream_leaves_nothing(stored: Place, size: int) -> None:
    """Its error comes through as it is; there is no object, no part of one, and what lay there before still does."""
    key, old, storage = stored.key(), stored.key("old"), stored.storage
    storage.write(old, [b"old"])
    with pytest.raises(BrokenError):
        storage.write(key, breaking(size))
    for target in (key, old):
        with pytest.raises(BrokenError):
            put(storage, target, breaking(size))
    assert stored.keys() == [old]
    assert whole(storage, old) == b"old"
    assert not stored.remains()


def test_errors_of_a_sender_are_its_own(stored: Place) -> None:
    """A sender that misses a file of its own is not taken for a storage that misses its bucket."""

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise FileNotFoundError

    for act in (lambda: stored.storage.write(stored.key(), failing()), lambda: put(stored.storage, stored.key(), failing())):
        with pytest.raises(FileNotFoundError):
            act()


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_a_cancelled_put_leaves_nothing(stored: Place, size: int) -> None:
    """A task that is cancelled while its sender is silent leaves no object and no part of one."""

    async def cancelled() -> None:
        silent = asyncio.Event()

        async def sender() -> AsyncIterator[bytes]:
            for chunk in chunks(size):
                yield chunk
            silent.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(stored.storage.put(stored.key(), sender()))
        await silent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not stored.keys()
    assert not stored.remains()


def test_of_concurrent_puts_one_is_there(stored: Place) -> None:
    """Whatever happens at once, a key has one of the wholes that were stored under it."""
    key, storage = stored.key(), stored.storage

    async def race() -> None:
        await asyncio.gather(*(storage.put(key, flowing([letter.encode() * MIB] * 3)) for letter in "abcdef"))

    asyncio.run(race())
    found = whole(storage, key)
    assert len(found) == 3 * MIB
    assert len(set(found)) == 1
    assert stored.keys() == [key]


def test_identity(stored: Place) -> None:
    """Every process that opens the same storage gets the same text, and another storage has another."""
    assert stored.again().identity == stored.storage.identity
    other = {"PENSTOCK_DATA_DIR": stored.env["PENSTOCK_DATA_DIR"] + "-other", "S3_BUCKET": "other"}
    changed = "PENSTOCK_DATA_DIR" if stored.kind == "folder" else "S3_BUCKET"
    assert stored.again(**{changed: other[changed]}).identity != stored.storage.identity


def test_no_asynchronous_call_of_obstore(stored: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one a process died at its exit now and then. That is a race, so it is the calls that are looked for."""
    names = [name for name in dir(obstore) if name.endswith("_async")]
    assert {"put_async", "head_async", "get_async", "open_writer_async"} <= set(names)
    for name in names:
        monkeypatch.delattr(obstore, name)
    put(stored.storage, stored.key(), chunks(9 * MIB))

    async def streamed() -> int:
        return sum([len(block) async for block in await stored.storage.stream(stored.key())])

    assert asyncio.run(streamed()) == 9 * MIB


NO_KEYS = ("", "/a", "a/", "a//b", "..", "a/../b", "a/./b", ".partial/x", "a/.b", "ü", "a b", "a\0", "a\n", "a\\b", "a?b", "a" * 600)


def test_what_is_no_key(stored: Place) -> None:
    """What could lead elsewhere is refused before anything is asked."""
    storage = stored.storage
    for wrong in map(Key, NO_KEYS):
        for act in (
            storage.stat,
            storage.read,
            storage.delete,
            lambda key: put(storage, key, [b"x"]),
            lambda key: storage.write(key, [b"x"]),
        ):
            with pytest.raises(ValueError, match="not a key"):
                act(wrong)
        with pytest.raises(ValueError, match="not a key"):
            storage.sign(Method.GET, wrong, timedelta(minutes=1))


def test_check(stored: Place) -> None:
    """A storage that works passes and has nothing more in it afterwards."""
    stored.storage.check()
    assert not list(stored.storage.list("checks/"))


@pytest.mark.parametrize(
    "wrong", [{"S3_BUCKET": "no-such-bucket"}, {"AWS_ENDPOINT": "http://127.0.0.1:1"}, {"AWS_SECRET_ACCESS_KEY": "wrong"}]
)
def test_check_says_what_is_wrong(stored: Place, wrong: dict[str, str]) -> None:
    """A bucket that is not there, a server that does not answer, a wrong secret: the setting to look at is named."""
    if stored.kind == "folder" or (stored.kind, *wrong) == ("localstack", "AWS_SECRET_ACCESS_KEY"):
        pytest.skip("a folder has none of these, and LocalStack does not look at signatures of requests")
    with pytest.raises(StorageUnavailableError) as caught:
        stored.again(**wrong).check()
    setting = next(iter(wrong)).replace("SECRET_ACCESS_KEY", "ACCESS_KEY_ID")
    assert setting in caught.value.message
