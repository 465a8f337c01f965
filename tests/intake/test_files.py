"""Files on their way into storage, with a real database and a real folder."""

import asyncio
import gc
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from penstock.bootstrap import Application, application
from penstock.errors import (
    BodyTimeoutError,
    IncompleteBodyError,
    ObjectNotFoundError,
    PayloadTooLargeError,
    PenstockError,
    UploadNotFoundError,
)
from penstock.intake.bodies import BodyLimits, bounded, collected
from penstock.intake.files import new_key
from penstock.intake.model import ReceivedFile
from penstock.jobs.model import JobId
from penstock.settings import load_settings
from penstock.sources.names import disposition_name, file_name
from penstock.storage.keys import is_key
from penstock.storage.local import LocalStorage
from penstock.storage.model import Key

LIMITS = BodyLimits(max_bytes=10, idle_seconds=20, total_seconds=20)


@pytest.fixture
def here(database: str, tmp_path: Path) -> Iterator[Application]:
    settings = load_settings({"DATABASE_URL": database, "PENSTOCK_DATA_DIR": str(tmp_path)}, Path("/nonexistent"))
    with application(settings) as found:
        yield found


def _rows(database: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT key, name, resource, size, sha256, job_id FROM penstock.files ORDER BY created_at").fetchall()


def _received(here: Application, *chunks: bytes | Exception, name: str = "users.csv") -> ReceivedFile:
    return asyncio.run(here.files.receive(name, _pieces(*chunks), resource="users"))


async def _pieces(*chunks: bytes | BaseException) -> AsyncIterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk


def test_a_file_is_noted_stored_and_digested(here: Application, database: str, tmp_path: Path) -> None:
    """Its size and digest appear with its job."""
    file = _received(here, b"abc", b"def")
    digest = "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721"
    assert (file.name, file.size, file.sha256) == ("users.csv", 6, digest)
    assert b"".join(here.storage.read(file.key)) == b"abcdef"
    assert _rows(database) == [(file.key, "users.csv", "users", None, None, None)]
    job_id = _job(here, tmp_path, lambda connection, job_id: here.files.attach(connection, file, job_id))
    assert _rows(database) == [(file.key, "users.csv", "users", 6, digest, uuid.UUID(job_id))]


def test_it_is_noted_before_its_first_byte(here: Application, database: str) -> None:
    """What a crash leaves in storage is found by its row."""
    seen: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        seen.append(len(await asyncio.to_thread(_rows, database)))
        yield b"x"

    asyncio.run(here.files.receive("a.csv", chunks()))
    assert seen == [1]


def test_a_stream_that_raises_leaves_nothing(here: Application, database: str) -> None:
    """Its own error comes out, whatever storage makes of it."""
    with pytest.raises(IncompleteBodyError, match="the very one"):
        _received(here, b"x" * 2_000_000, IncompleteBodyError("the very one"))
    assert _rows(database) == []
    assert list(here.storage.list("")) == []


def test_nothing_keeps_the_error_of_a_stream(here: Application) -> None:
    """An error leads to all that it came through: kept in a circle, the client's connection would stay open with it."""

    class Marker:
        pass

    seen: list[weakref.ref[Marker]] = []

    async def chunks() -> AsyncIterator[bytes]:
        marker = Marker()
        seen.append(weakref.ref(marker))
        yield b"x"
        raise IncompleteBodyError("cut")

    async def run() -> bool:
        with suppress(IncompleteBodyError):
            await here.files.receive("a.csv", chunks())
        return seen[0]() is None

    gc.disable()
    try:
        assert asyncio.run(run())
    finally:
        gc.enable()


def test_a_client_that_leaves_leaves_nothing(here: Application, database: str) -> None:
    """A cancelled task takes back what it began."""

    async def run() -> None:
        begun = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"x" * 2_000_000
            begun.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(here.files.receive("a.csv", chunks()))
        async with asyncio.timeout(20):
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert _rows(database) == []
    assert list(here.storage.list("")) == []


def _job(here: Application, tmp_path: Path, within: Callable[[Any, JobId], None]) -> JobId:
    from penstock.formats.model import ReadOptions  # noqa: PLC0415 - only here
    from penstock.jobs.model import ImportOptions  # noqa: PLC0415

    (tmp_path / "u.csv").write_text("email,name\n")
    return here.imports.create("users", str(tmp_path / "u.csv"), read=ReadOptions(), options=ImportOptions(), within=within).job_id


def test_a_file_of_a_job_is_not_discarded(here: Application, database: str, tmp_path: Path) -> None:
    """Whoever takes back a file that came to nothing, and is wrong about it, does no harm."""
    file, other = _received(here, b"abc"), _received(here, b"def")
    job_id = _job(here, tmp_path, lambda connection, job_id: here.files.attach(connection, file, job_id))
    here.files.discard(file)
    here.files.discard(other)
    assert b"".join(here.storage.read(file.key)) == b"abc"
    with pytest.raises(ObjectNotFoundError):
        here.storage.stat(other.key)
    assert [(row[0], str(row[5])) for row in _rows(database)] == [(file.key, job_id)]


def test_storage_that_hangs_keeps_no_connection(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While storage removes a file that came to nothing, the whole pool is everybody's; and no job can be made for the file any more."""
    environment = {"DATABASE_URL": database, "PENSTOCK_DATA_DIR": str(tmp_path), "IMPORT_WORKERS": "1", "CONNECTION_TIMEOUT": "2"}
    real, refused = LocalStorage.delete, []
    with application(load_settings(environment, Path("/nonexistent"))) as here:

        def delete(self: LocalStorage, key: Key) -> None:
            with pytest.raises(UploadNotFoundError):
                _job(here, tmp_path, lambda connection, job_id: here.files.attach(connection, file, job_id))
            refused.append(key)
            real(self, key)

        monkeypatch.setattr(LocalStorage, "delete", delete)
        file = _received(here, b"abc")
        here.files.discard(file)
    assert refused == [file.key]
    assert _rows(database) == []


def test_a_file_past_its_time_is_not_attached(here: Application, database: str, tmp_path: Path) -> None:
    """Housekeeping may be removing it: there is no job then."""
    file = _received(here, b"abc")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE penstock.files SET expires_at = now()")
    with pytest.raises(UploadNotFoundError):
        _job(here, tmp_path, lambda connection, job_id: here.files.attach(connection, file, job_id))
    assert here.imports.list() == ([], None)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("users.csv", "users.csv"),
        ("C:\\Users\\me\\users.csv", "users.csv"),
        ("../../etc/passwd", "passwd"),
        ("a/b\\c.csv", "c.csv"),
        ("a\r\nb\0c\x7f.csv", "abc.csv"),
        ("\u202evsc.exe", "vsc.exe"),
        ("Größe 表.csv", "Größe 表.csv"),
        ("", "file"),
        (None, "file"),
        ("..", "file"),
        ("folder/", "file"),
        ("x" * 300 + ".csv.gz", "x" * 248 + ".csv.gz"),
    ],
)
def test_names_are_made_safe(given: str | None, name: str) -> None:
    assert file_name(given, "file") == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a b.csv"', "a b.csv"),
        ("attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.csv; filename=x.csv", "Größe.csv"),
        ("attachment; filename*=nonsense''a.csv", "a.csv"),
        ("attachment; filename*=idna''%C3%A9.csv", "é.csv"),
        ("attachment; filename*=punycode''%C3%A9.csv", "é.csv"),
        ("attachment; filename*=undefined''%41.csv", "A.csv"),
        ("inline", None),
        ("", None),
        (None, None),
    ],
)
def test_names_in_headers(header: str | None, name: str | None) -> None:
    assert disposition_name(header) == name


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("users.CSV.gz", ".csv.gz"),
        ("a.ndjson.zst", ".ndjson.zst"),
        ("a.exe", ""),
        ("../.csv", ".csv"),
        ("a.csv\n", ""),
        ("ä.c\u017fv", ""),
        (".gz", ".gz"),
    ],
)
def test_of_a_name_only_known_endings_reach_the_key(name: str, ending: str) -> None:
    """The rest is a day and an id."""
    key = new_key(name)
    folder, day, last = key.split("/")
    assert (folder, len(day), last[36:]) == ("uploads", 10, ending)
    assert uuid.UUID(last[:36])
    assert is_key(key)


def _bounded(*chunks: bytes, limits: BodyLimits = LIMITS, length: int | None = None) -> bytes:
    async def run() -> bytes:
        return b"".join([chunk async for chunk in bounded(_pieces(*chunks), limits, content_length=length)])

    return asyncio.run(run())


def test_a_body_within_its_limits_passes() -> None:
    assert _bounded(b"12345", b"", b"67890") == b"1234567890"
    assert _bounded(b"123", length=3) == b"123"


@pytest.mark.parametrize(
    ("chunks", "length", "expected"),
    [
        ([b"x"], 11, PayloadTooLargeError),
        ([b"x" * 6, b"x" * 5], None, PayloadTooLargeError),
        ([b"x" * 6], 7, IncompleteBodyError),
        ([], 1, IncompleteBodyError),
    ],
)
def test_a_body_beyond_its_limits_is_told(chunks: list[bytes], length: int | None, expected: type[PenstockError]) -> None:
    with pytest.raises(expected):
        _bounded(*chunks, length=length)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (BodyLimits(max_bytes=10, idle_seconds=0.05, total_seconds=20), "Nothing of the body came"),
        (BodyLimits(max_bytes=10, idle_seconds=20, total_seconds=0.05), "was not whole within"),
    ],
)
def test_a_body_that_does_not_come_ends(limits: BodyLimits, said: str) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    async def run() -> None:
        async for _ in bounded(stalled(), limits):
            pass

    with pytest.raises(BodyTimeoutError, match=said):
        asyncio.run(run())


def test_the_beginning_of_a_body_is_enough() -> None:
    """What is behind the wanted bytes is not asked for."""
    assert asyncio.run(collected(_pieces(b"123", b"45", AssertionError("not wanted")), 4)) == (b"1234", False)
    assert asyncio.run(collected(_pieces(b"123", b"4"), 4)) == (b"1234", True)
