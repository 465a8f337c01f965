"""Fetching a `file_url`: never from where the server may not go, never half a file for a whole one."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network, IPv6Network

import pytest

from penstock.errors import CancelledError, DownloadFailedError, ForbiddenUrlError, PayloadTooLargeError
from penstock.sources.fetching import check_url, fetch
from tests.support.waiting import until

LOOPBACK = (IPv4Network("127.0.0.0/8"),)
Networks = Sequence[IPv4Network | IPv6Network]


class _Server(ThreadingHTTPServer):
    """Answers by path, and counts who connects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.held = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - the base class's names
        self.connections += 1
        return True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        match self.path.partition("?")[0].split("/")[1:]:
            case ["redirect", count] if int(count):
                self._answer(302, b"", {"Location": f"/redirect/{int(count) - 1}"})
            case ["to", *place]:
                self._answer(302, b"", {"Location": "/".join(place)})
            case ["cut"]:
                self._answer(200, b"id,name\n", {"Content-Length": "1000"})
                self.close_connection = True
            case ["named"]:
                self._answer(200, b"id\n", {"Content-Disposition": "attachment; filename*=UTF-8''Gro%C3%9F.csv", "Set-Cookie": "a=b"})
            case ["endless"]:
                self._endless()
            case ["silent"]:
                self._answer(200, b"id\n", {"Content-Length": "1000"})
                self.wfile.flush()
                self.server.held.wait(30)
                self.close_connection = True
            case ["packed"]:
                self._answer(200, b"id\n", {"Content-Encoding": "br"})
            case ["missing.csv"]:
                self._answer(404, b"no")
            case _:
                self._answer(200, b"id,name\n1,a\n")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - the base class's names
        return


@pytest.fixture
def server() -> Iterator[_Server]:
    served = _Server()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.held.set()
        served.shutdown()
        served.server_close()
        thread.join()


def _fetched(
    url: str,
    *,
    allowed: Networks = LOOPBACK,
    max_bytes: int = 10**6,
    total_seconds: float = 30,
    cancel: threading.Event | None = None,
    resolve: Callable[[str, int], Sequence[str]] | None = None,
) -> tuple[str, bytes]:
    more = {} if resolve is None else {"resolve": resolve}
    with fetch(url, allowed=allowed, max_bytes=max_bytes, total_seconds=total_seconds, cancel=cancel or threading.Event(), **more) as file:
        return file.name, b"".join(file.chunks)


def test_a_file_is_fetched_with_its_name(server: _Server) -> None:
    """The bytes come whole; the name is the path's last part, or what Content-Disposition says."""
    assert _fetched(f"http://127.0.0.1:{server.port}/a/users%20new.csv?x=1") == ("users new.csv", b"id,name\n1,a\n")
    assert _fetched(f"http://127.0.0.1:{server.port}/named") == ("Groß.csv", b"id\n")


def test_the_request_is_plain(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment, no cookie, no compression that would hide the file's own bytes; the Host as it was asked for."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    _fetched(f"http://files.example:{server.port}/to//named", resolve=lambda _host, _port: ["127.0.0.1"])
    path, headers = server.requests[-1]
    assert path == "/named"
    assert headers == {"Host": f"files.example:{server.port}", "Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "penstock"}


FORBIDDEN = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2002:a9fe:a9fe::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[fd00::1]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://100.64.0.1/",
    "http://192.88.99.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://user:secret@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1:{port}/ x",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:99999/",
    "http:///etc/passwd",
    "http://",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "users.csv",
    "",
]


@pytest.mark.parametrize("form", FORBIDDEN)
def test_forbidden_forms_never_connect(server: _Server, form: str) -> None:
    """Whatever way an address is written: what is not on the public internet is refused before anything connects."""
    url = form.format(port=server.port)
    with pytest.raises(ForbiddenUrlError):
        check_url(url, allowed=())
    with pytest.raises(ForbiddenUrlError):
        _fetched(url, allowed=())
    assert server.connections == 0


def test_public_addresses_are_allowed() -> None:
    """Normalised: lower-case ASCII, no default port, no fragment."""
    resolve = _answers(["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
    assert check_url("HTTPS://Bücher.example:443/a b#x".replace(" ", "%20"), allowed=(), resolve=resolve) == (
        "https://xn--bcher-kva.example/a%20b"
    )


def test_every_address_of_a_name_is_judged(server: _Server) -> None:
    """One private address among public ones is enough to refuse."""
    with pytest.raises(ForbiddenUrlError):
        check_url("http://mixed.example/", allowed=(), resolve=_answers(["93.184.215.14", "127.0.0.1"]))
    assert server.connections == 0


def test_a_name_that_answers_differently_the_second_time_gains_nothing(server: _Server) -> None:
    """Each hop resolves once, and connects to exactly what was judged: the rebound address is never reached."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    only = (IPv4Network("127.0.0.1/32"),)
    assert _fetched(f"http://rebinding.example:{server.port}/x.csv", allowed=only, resolve=resolve)[0] == "x.csv"
    assert asked == ["rebinding.example"]
    with pytest.raises(ForbiddenUrlError):
        _fetched(f"http://rebinding.example:{server.port}/x.csv", allowed=only, resolve=resolve)
    assert server.connections == 1


@pytest.mark.parametrize("place", ["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "file:///etc/passwd", "http://10.0.0.1/"])
def test_redirects_are_judged_anew(server: _Server, place: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        _fetched(f"http://127.0.0.1:{server.port}/to/{place}")
    assert server.connections == 1


def test_three_redirects_are_followed_and_no_more(server: _Server) -> None:
    assert _fetched(f"http://127.0.0.1:{server.port}/redirect/3")[1] == b"id,name\n1,a\n"
    with pytest.raises(DownloadFailedError, match="more than 3 times"):
        _fetched(f"http://127.0.0.1:{server.port}/redirect/4")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/cut", "broke"),
        ("/missing.csv", "status 404"),
        ("/packed", "Content-Encoding br"),
        ("/to/", "to nowhere"),
        ("/to/http://[::1", "not a URL"),
        ("/to///[x]/", "not a URL"),
    ],
)
def test_what_is_not_the_whole_file_fails(server: _Server, path: str, said: str) -> None:
    with pytest.raises(DownloadFailedError, match=said):
        _fetched(f"http://127.0.0.1:{server.port}{path}")


def test_the_size_is_limited_announced_or_not(server: _Server) -> None:
    for path in ("/users.csv", "/endless"):
        with pytest.raises(PayloadTooLargeError):
            _fetched(f"http://127.0.0.1:{server.port}{path}", max_bytes=5)


def test_a_silent_server_ends_at_the_total_time_or_when_cancelled(server: _Server) -> None:
    url = f"http://127.0.0.1:{server.port}/silent"
    with pytest.raises(DownloadFailedError, match=r"within 0\.5 s"):
        _fetched(url, total_seconds=0.5)
    cancel = threading.Event()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            _fetched(url, cancel=cancel)
        except CancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert until(lambda: len(server.requests) == 2)
    cancel.set()
    thread.join(20)
    assert len(caught) == 1


def test_the_next_address_is_tried(server: _Server) -> None:
    """A name with several addresses is reached while one of them answers; the server is bound to 127.0.0.1 alone."""
    url = f"http://two.example:{server.port}/x.csv"
    assert _fetched(url, resolve=_answers(["127.0.0.9", "127.0.0.1"]))[0] == "x.csv"


def test_a_server_that_is_not_there_is_a_failed_download() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        with pytest.raises(DownloadFailedError, match="cannot be reached"):
            _fetched(f"http://127.0.0.1:{taken.getsockname()[1]}/")


def test_a_name_without_addresses_is_a_failed_download() -> None:
    with pytest.raises(DownloadFailedError, match="cannot be resolved"):
        check_url("http://nowhere.invalid/", allowed=())


def _answers(addresses: list[str]) -> Callable[[str, int], list[str]]:
    return lambda _host, _port: addresses
