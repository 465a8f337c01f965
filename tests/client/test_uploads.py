"""Files on their way to a server."""

import io
import os
import threading
import tracemalloc
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.client.uploads import Upload
from penstock.errors import (
    CancelledError,
    FileChangedError,
    IdempotencyInProgressError,
    PayloadTooLargeError,
    ServerUnreachableError,
)
from penstock.formats.model import Format, ReadOptions
from penstock.jobs.model import Empty, ImportOptions, Mode
from tests.client.conftest import JOB, Answer, Handler, Scripted, dropping, good, job_json, refusing

ACCEPTED = msgspec.json.encode(
    {"job_id": JOB.job_id, "type": "IMPORT", "resource": "users", "status": "PENDING", "created_at": JOB.created_at, "links": {}}
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'my "users"\n.csv'
    path.write_bytes(b"email,name\na@example.com,A\n" * 40_000)
    return path


class Receiver:
    """Takes uploads; `failures` come first, each after so many bytes of its request were read (None: all)."""

    def __init__(self, *failures: tuple[int | None, Answer]) -> None:
        self.failures = list(failures)
        self.bodies: list[bytes] = []
        self.headers: list[Message] = []

    def __call__(self, handler: Handler) -> None:
        if handler.command == "GET":
            handler.send(200, job_json())
            return
        self.headers.append(handler.headers)
        if self.failures:
            size, answer = self.failures.pop(0)
            handler.rfile.read(size) if size is not None else handler.body()
            answer(handler)
            handler.close_connection = True
            return
        self.bodies.append(handler.body())
        handler.send(202, ACCEPTED)

    def parts(self) -> dict[str, Any]:
        """Form fields of the last upload, and its file as (name, bytes)."""
        kind = self.headers[-1]["Content-Type"].encode()
        form = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + self.bodies[-1])
        found: dict[str, Any] = {}
        for part in form.get_payload():
            name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
            content = part.get_payload(decode=True)  # type: ignore[union-attr]
            found[str(name)] = (part.get_filename(), content) if part.get_filename() else content.decode()  # type: ignore[union-attr]
        return found


def test_a_file_arrives_whole_with_its_options(scripted: Scripted, file: Path) -> None:
    """As one form: options that differ from the default, then the file under its name; its length is announced."""
    receiver = Receiver()
    scripted.answers(receiver)
    steps: list[tuple[int, int | None]] = []
    job = scripted.client.import_file(
        "users",
        file,
        read=ReadOptions(format=Format.CSV, delimiter="\t", null_values=("NULL", ""), mapping={"E-Mail": "email"}),
        options=ImportOptions(mode=Mode.INSERT, empty=Empty.KEEP, atomic=True, max_errors=0, datetime_format="%d.%m.%Y"),
        sent=lambda done, total: steps.append((done, total)),
    )
    assert job == JOB
    parts = receiver.parts()
    name, content = parts.pop("file")
    assert name == "my %22users%22%0A.csv"
    assert content == file.read_bytes()
    assert msgspec.json.decode(parts.pop("mapping")) == {"E-Mail": "email"}
    assert msgspec.json.decode(parts.pop("null_values")) == ["NULL", ""]
    assert parts == {
        "resource": "users",
        "mode": "insert",
        "atomic": "true",
        "max_errors": "0",
        "datetime_format": "%d.%m.%Y",
        "format": "csv",
        "delimiter": "\t",
    }
    assert steps[-1] == (file.stat().st_size, file.stat().st_size)
    assert int(receiver.headers[0]["Content-Length"]) == len(receiver.bodies[0])


@pytest.mark.parametrize(
    "first", [(1000, dropping), (None, dropping), (None, refusing(IdempotencyInProgressError("wait"), Retry_After="0"))]
)
def test_what_was_lost_is_sent_again_under_the_same_key(scripted: Scripted, file: Path, first: tuple[int | None, Answer]) -> None:
    """So that a server that had it all does not import it twice."""
    receiver = Receiver(first)
    scripted.answers(receiver)
    scripted.client.import_file("users", file)
    keys = [headers["Idempotency-Key"] for headers in receiver.headers]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert receiver.parts()["file"][1] == file.read_bytes()
    scripted.client.import_file("users", file)
    assert receiver.headers[-1]["Idempotency-Key"] != keys[0]


def test_a_file_is_sent_anew_from_where_its_stream_stood(scripted: Scripted, file: Path) -> None:
    """A stream that can be sought is as good as a file."""
    receiver = Receiver((1000, dropping))
    scripted.answers(receiver)
    with file.open("rb") as stream:
        stream.readline()
        scripted.client.import_file("users", stream, name="rest.csv", idempotency_key="mine")
    assert receiver.parts()["file"] == ("rest.csv", file.read_bytes().partition(b"\n")[2])
    assert receiver.headers[0]["Idempotency-Key"] == "mine"


def test_a_pipe_is_sent_once(scripted: Scripted) -> None:
    """What was read from it cannot be read again: the trouble is told, after one attempt."""
    receiver = Receiver((1000, dropping))
    scripted.answers(receiver)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb") as out:
        out.write(b"email\n" * 1000)
        out.close()
        with pytest.raises(ServerUnreachableError):
            scripted.client.import_file("users", stream)
    assert len(receiver.headers) == 1


def test_a_pipe_goes_as_it_comes(scripted: Scripted) -> None:
    """The server has the first line while the second is not written yet; no length is announced."""
    arrived = threading.Event()
    receiver = Receiver()

    def taking(handler: Handler) -> None:
        if handler.command == "POST":
            receiver.headers.append(handler.headers)
            body = b""
            while size := int(handler.rfile.readline(), 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
                if b"first" in body:
                    arrived.set()
            receiver.bodies.append(body)
            handler.rfile.readline()
            handler.send(202, ACCEPTED)
        else:
            handler.send(200, job_json())

    scripted.answers(taking)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        sender = threading.Thread(target=scripted.client.import_file, args=("users", stream))
        sender.start()
        os.write(writing, b"first\n")
        assert arrived.wait(30)
        os.write(writing, b"second\n")
        os.close(writing)
        sender.join(30)
        assert not sender.is_alive()
    assert receiver.parts()["file"] == ("standard input", b"first\nsecond\n")
    assert receiver.headers[0]["Content-Length"] is None


@pytest.mark.parametrize("change", [b"more", None])
def test_a_file_that_changes_meanwhile_is_refused(scripted: Scripted, file: Path, change: bytes | None) -> None:
    """Longer or shorter than announced: the form is not closed, so the server keeps nothing."""
    scripted.answers(Receiver((1000, dropping)))

    def meddle(_done: int, _total: int | None) -> None:
        if change is None:
            os.truncate(file, 10)
        else:
            with file.open("ab") as out:
                out.write(change)

    with pytest.raises(FileChangedError):
        scripted.client.import_file("users", file, sent=meddle)


def test_cancelling_ends_the_sending(scripted: Scripted, file: Path) -> None:
    """The request is cut before its end."""
    cancel = threading.Event()
    receiver = Receiver()
    scripted.answers(receiver)
    with pytest.raises(CancelledError):
        scripted.client.import_file("users", file, cancel=cancel, sent=lambda _done, _total: cancel.set())
    assert receiver.bodies == []


def test_cancelling_does_not_wait_for_a_silent_pipe(scripted: Scripted) -> None:
    """Nothing comes, and still the sending ends."""
    cancel = threading.Event()
    scripted.answers(Receiver())
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb"):
        threading.Timer(0.1, cancel.set).start()
        with pytest.raises(CancelledError):
            scripted.client.import_file("users", stream, cancel=cancel)


def test_a_pipe_that_ends_with_the_cancel_is_not_whole(scripted: Scripted) -> None:
    """Ctrl-C ends the program that writes into the pipe, too: what came until then is no file."""
    cancel = threading.Event()
    receiver = Receiver()
    scripted.answers(receiver)
    reading, writing = os.pipe()
    os.write(writing, b"email\n")

    def end(_done: int, _total: int | None) -> None:
        os.close(writing)
        threading.Timer(0.02, cancel.set).start()

    with os.fdopen(reading, "rb") as stream, pytest.raises(CancelledError):
        scripted.client.import_file("users", stream, cancel=cancel, sent=end)
    assert receiver.bodies == []


def test_a_refusal_before_the_end_is_heard(scripted: Scripted, file: Path) -> None:
    """The server need not read all of what it does not want."""
    receiver = Receiver((1000, refusing(PayloadTooLargeError("too much"))))
    scripted.answers(receiver)
    with pytest.raises((PayloadTooLargeError, ServerUnreachableError)):
        scripted.client.import_file("users", file)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Whatever the file's size."""
    path = tmp_path / "large"
    with path.open("wb") as out:
        out.truncate(200_000_000)
    upload = Upload(path, "large", {})
    tracemalloc.start()
    try:
        sent = sum(len(block) for block in upload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == int(upload.headers["Content-Length"])
    assert peak < 4_000_000


def test_a_stream_without_a_descriptor_will_do(scripted: Scripted) -> None:
    """Such as bytes in memory."""
    receiver = Receiver()
    scripted.answers(receiver)
    scripted.client.import_file("users", io.BytesIO(b"email\n"))
    assert receiver.parts()["file"] == ("standard input", b"email\n")


def test_a_repeated_request_gives_the_first_job(scripted: Scripted) -> None:
    """200 in place of 202 is as good."""

    def replayed(handler: Handler) -> None:
        handler.body()
        handler.send(200, ACCEPTED)

    scripted.answers(replayed, good(job_json()))
    assert scripted.client.import_file("users", io.BytesIO(b"email\n")) == JOB


def test_a_server_that_goes_away_after_taking_the_file(scripted: Scripted) -> None:
    """The job is there, so its id is given, with what the answer told of it."""

    def taking(handler: Handler) -> None:
        handler.body()
        handler.send(202, ACCEPTED)

    scripted.answers(taking, dropping)
    job = scripted.client.import_file("users", io.BytesIO(b"email\n"), name="users.csv")
    assert (job.job_id, job.source_name, job.status) == (JOB.job_id, "users.csv", "PENDING")
