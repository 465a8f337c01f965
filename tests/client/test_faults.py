"""What the client makes of refusals, trouble on the way and strange answers."""

import inspect
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from penstock import errors
from penstock.client import Server
from penstock.errors import (
    DatabaseUnavailableError,
    InvalidOptionError,
    InvalidStateError,
    JobNotFoundError,
    OverloadedError,
    PenstockError,
    ServerRefusedError,
    ServerUnreachableError,
)
from tests.client.conftest import JOB, Scripted, dropping, good, job_json, refusing, streaming

CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, PenstockError)]
REFUSALS = [c for c in CLASSES if c.http_status < 500 and c is not errors.IdempotencyInProgressError]  # that one passes


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.code)
def test_a_refusal_is_the_same_class_as_on_the_server(scripted: Scripted, kind: type[PenstockError]) -> None:
    """With its message, its details and the request's id, after one request."""
    told = kind("do this", limit=5)
    told.details["message"] = "a detail of that name"
    scripted.answers(refusing(told))
    with pytest.raises(PenstockError) as caught:
        scripted.client.get(JOB.job_id)
    assert type(caught.value) is kind
    assert caught.value.message == "do this"
    assert caught.value.details["request_id"] == "r-1"
    assert (caught.value.details["message"], caught.value.details["limit"]) == ("a detail of that name", 5)
    assert len(scripted.asked) == 1


def test_an_unknown_code_is_told_with_its_message(scripted: Scripted) -> None:
    """A newer server may refuse for reasons that this version has no class for."""
    body = msgspec.json.encode({"error": {"code": "out_of_tune", "message": "tune it"}})
    scripted.answers(lambda handler: handler.send(409, body))
    with pytest.raises(ServerRefusedError) as caught:
        scripted.client.get(JOB.job_id)
    assert caught.value.message == "tune it (out_of_tune)"
    assert caught.value.details["code"] == "out_of_tune"


@pytest.mark.parametrize("body", [b"<html>Not here</html>", b"", b"\xff\xfe", b'{"error": "text"}', b"[]", b'{"id": 1}'])
@pytest.mark.parametrize("status", [200, 404])
def test_answers_of_something_else_are_refused(scripted: Scripted, status: int, body: bytes) -> None:
    """A page of a proxy, or of another service: one error that says to check the URL, no traceback."""
    scripted.answers(lambda handler: handler.send(status, body))
    with pytest.raises(ServerRefusedError):
        scripted.client.get(JOB.job_id)


def test_a_redirect_is_told(scripted: Scripted) -> None:
    """Not followed: a file would be sent twice, or to somewhere else."""
    scripted.answers(lambda handler: handler.send(301, b"", Location="https://elsewhere.example/"))
    with pytest.raises(ServerRefusedError, match="elsewhere"):
        scripted.client.get(JOB.job_id)


def test_trouble_that_passes_is_not_seen(scripted: Scripted) -> None:
    """A lost connection, a bad gateway and an outage are tried again, after the pause that the server asks for."""
    scripted.answers(
        dropping,
        lambda handler: handler.send(502, b"<html>"),
        refusing(DatabaseUnavailableError("away"), Retry_After="0"),
        good(job_json(processed_rows=7)),
    )
    assert scripted.client.get(JOB.job_id).processed_rows == 7
    assert len(scripted.asked) == 4


def test_an_outage_that_does_not_pass_is_told_as_the_server_told_it(scripted: Scripted) -> None:
    """After five attempts."""
    scripted.answers(refusing(OverloadedError("full"), Retry_After="0"))
    with pytest.raises(OverloadedError):
        scripted.client.list()
    assert len(scripted.asked) == 5


@pytest.mark.parametrize("pause", ["-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", "٣"])
def test_a_strange_retry_after_does_no_harm(scripted: Scripted, pause: str) -> None:
    """Neither an error nor an endless wait."""
    scripted.answers(refusing(OverloadedError("full"), Retry_After=pause.encode("utf-8").decode("latin-1")), good(job_json()))
    assert scripted.client.get(JOB.job_id) == JOB


def test_what_might_act_twice_is_asked_once(scripted: Scripted) -> None:
    """Whether a lost cancel or retry took effect, only a look at the job can tell."""
    scripted.answers(dropping)
    for ask in (scripted.client.cancel, scripted.client.retry):
        with pytest.raises(ServerUnreachableError):
            ask(JOB.job_id)
    assert len(scripted.asked) == 2


def test_nobody_there_says_what_to_do() -> None:
    """The URL stands in the message."""
    with socket.socket() as taken:  # bound and never listening: refuses every connection
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Server(url) as server, pytest.raises(ServerUnreachableError, match=url) as caught:
            server.get(JOB.job_id)
    assert "penstock serve" in caught.value.message


def test_a_report_that_breaks_off_is_an_error(scripted: Scripted) -> None:
    """What came is given first; nobody takes it for the whole."""
    scripted.answers(streaming(b'{"row": 1}\n'))
    records = scripted.client.errors(JOB.job_id)
    assert next(records) == {"row": 1}
    with pytest.raises(ServerUnreachableError, match="broke off"):
        next(records)


def test_a_refused_report_has_its_class(scripted: Scripted) -> None:
    """Streams, too, tell why."""
    scripted.answers(refusing(JobNotFoundError("gone")))
    for stream in (scripted.client.errors(JOB.job_id), scripted.client.rejected(JOB.job_id)):
        with pytest.raises(JobNotFoundError):
            next(iter(stream))


def test_members_that_a_server_leaves_out_and_adds_do_no_harm(scripted: Scripted) -> None:
    """Versions of client and server may differ."""
    least = {"job_id": JOB.job_id, "type": "IMPORT", "resource": "users", "status": "PENDING", "created_at": "2024-05-01T12:00:00Z"}
    scripted.answers(good(msgspec.json.encode(least | {"colour": "red"})))
    job = scripted.client.get(JOB.job_id)
    assert (job.status, job.processed_rows, job.warnings, job.updated_at) == ("PENDING", 0, [], job.created_at)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://x:99999",
        "http://x?y=1",
        "http://x#y",
        "http://x y",
        "http://x\n",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidOptionError):
        Server(url)


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    """It would stand in every hint."""
    with pytest.raises(InvalidOptionError) as caught:
        Server("http://me:hunter2@x")
    assert "hunter2" not in caught.value.message


def test_a_url_may_have_a_path(scripted: Scripted) -> None:
    """For a server behind a proxy that gives it a folder."""
    scripted.answers(good(job_json()))
    with Server(f"{scripted.url}/tools/penstock/") as server:
        server.get(JOB.job_id)
    assert scripted.asked == [("GET", f"/tools/penstock/v1/jobs/{JOB.job_id}")]


def test_an_id_cannot_lead_elsewhere(scripted: Scripted) -> None:
    """It is one segment of the path, whatever stands in it."""
    scripted.answers(refusing(InvalidStateError("no")))
    with pytest.raises(InvalidStateError):
        scripted.client.get("../../x?y#z")  # type: ignore[arg-type]
    assert scripted.asked == [("GET", "/v1/jobs/..%2F..%2Fx%3Fy%23z")]


def test_an_unhealthy_server_is_an_answer(scripted: Scripted) -> None:
    """503 is what it says of itself, not a failure to be tried again."""
    body = b'{"status": "unhealthy", "version": "1", "checks": {"database": {"status": "failed", "ms": 1, "message": "away"}}}'
    scripted.answers(lambda handler: handler.send(503, body))
    assert scripted.client.health().status == "unhealthy"
    assert len(scripted.asked) == 1


def test_nothing_is_left_open(scripted: Scripted) -> None:
    """A stream that nobody reads to its end is closed with its generator."""
    scripted.answers(good(b'{"row": 1}\n' * 100_000))
    records = scripted.client.errors(JOB.job_id)
    assert next(records)["row"] == 1
    records.close()  # type: ignore[attr-defined]


def test_retries_leave_standard_output_to_the_program(tmp_path: Path) -> None:
    """A program that writes an export there would write them among its records."""
    program = tmp_path / "program.py"
    program.write_text(
        "from penstock.client import Server\n"
        "from penstock.errors import ServerUnreachableError\n"
        "import penstock.client.transport as transport\n"
        "transport._ATTEMPTS = 2\n"
        "with Server('http://127.0.0.1:1') as server:\n"
        "    try:\n"
        "        server.get('5f0c8a36-6a52-4c55-9f6e-0d4a8f3c2b11')\n"
        "    except ServerUnreachableError:\n"
        "        print('away')\n"
    )
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "away\n"
    assert "retry" in ended.stderr
