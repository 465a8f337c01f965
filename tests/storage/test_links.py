"""Links: whoever holds one does that one thing with that one object for a while, and nothing else."""

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from litestar.datastructures import MultiDict

from penstock.errors import InvalidLinkError
from penstock.storage import Key, Method, SignedLink, verify_link
from penstock.storage.disposition import attachment
from penstock.storage.links import make_link
from tests.support.storages import SECRET, Place, altered, following

MINUTE = timedelta(minutes=1)
KEY = Key("uploads/2026-11-20/a.csv")


@pytest.fixture
def client(stored: Place) -> Iterator[httpx.Client]:
    with following(stored.storage) as made:
        yield made


def test_get(stored: Place, client: httpx.Client) -> None:
    """A link to GET gives the object, to be saved under its name; until it expires, any number of times."""
    stored.storage.write(stored.key("a.csv"), [b"a,b\n1,2\n"])
    link = stored.storage.sign(Method.GET, stored.key("a.csv"), MINUTE, filename="Prüfung & Co.csv")
    assert (link.method, link.headers) == (Method.GET, {})
    assert timedelta(seconds=50) < link.expires_at - datetime.now(UTC) <= MINUTE
    for _ in range(2):
        answer = client.get(link.url)
        assert (answer.status_code, answer.content) == (200, b"a,b\n1,2\n")
        assert answer.headers["content-disposition"] == attachment("Prüfung & Co.csv")


def test_get_without_a_name(stored: Place, client: httpx.Client) -> None:
    """It is saved all the same, never shown."""
    stored.storage.write(stored.key(), [b"<script>"], content_type="text/html")
    answer = client.get(stored.storage.sign(Method.GET, stored.key(), MINUTE).url)
    assert answer.headers["content-disposition"] == "attachment"


def test_a_part_by_link(stored: Place, client: httpx.Client) -> None:
    """A bucket answers a part of the object."""
    if stored.kind == "folder":
        pytest.skip("the server that answers links to a folder has its own tests")
    stored.storage.write(stored.key(), [b"0123456789"])
    answer = client.get(stored.storage.sign(Method.GET, stored.key(), MINUTE, filename="a").url, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")


def test_put(stored: Place, client: httpx.Client) -> None:
    """A link to PUT stores what is sent, under its key only."""
    link = stored.storage.sign(Method.PUT, stored.key("a.csv"), MINUTE)
    assert client.put(link.url, content=b"a,b\n" * 1000, headers=link.headers).is_success
    assert b"".join(stored.storage.read(stored.key("a.csv"))) == b"a,b\n" * 1000
    assert stored.keys() == [stored.key("a.csv")]


def forged(link: SignedLink) -> str:
    letter = link.url[-1]
    return link.url[:-1] + ("0" if letter != "0" else "1")


def longer(link: SignedLink) -> str:
    return re.sub(r"(expires=|X-Amz-Expires=)(\d+)", lambda found: found[1] + str(int(found[2]) + 1), link.url, flags=re.IGNORECASE)


WRONG: dict[str, Callable[[SignedLink], str]] = {
    "forged": forged,
    "longer": longer,
    "another key": lambda link: altered(link, "secret-a", "secret-b"),
    "another name": lambda link: altered(link, "one.csv", "two.exe"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_altered_links_are_refused(stored: Place, client: httpx.Client, wrong: str) -> None:
    """Nothing about a link can be changed: its signature, its expiry, its key, the name it saves under."""
    for name in ("secret-a", "secret-b"):
        stored.storage.write(stored.key(name), [b"x"])
    link = stored.storage.sign(Method.GET, stored.key("secret-a"), MINUTE, filename="one.csv")
    assert client.get(link.url).is_success
    assert client.get(WRONG[wrong](link)).status_code == 403


def test_without_a_signature_there_is_nothing(stored: Place, client: httpx.Client) -> None:
    """The address alone is no link."""
    if stored.kind == "localstack":
        pytest.skip("LocalStack shows every object to anybody")
    stored.storage.write(stored.key(), [b"x"])
    link = stored.storage.sign(Method.GET, stored.key(), MINUTE)
    assert client.get(link.url.partition("?")[0]).status_code in (400, 403)


@pytest.mark.parametrize("method", Method)
def test_a_link_is_for_one_method(stored: Place, client: httpx.Client, method: Method) -> None:
    """What may be read by a link may not be overwritten by it, nor the other way round."""
    stored.storage.write(stored.key(), [b"old"])
    other = Method.PUT if method is Method.GET else Method.GET
    link = stored.storage.sign(method, stored.key(), MINUTE)
    assert client.request(other, link.url, content=b"new" if other is Method.PUT else None).status_code == 403
    assert b"".join(stored.storage.read(stored.key())) == b"old"


def test_expired_links_are_refused(stored: Place, client: httpx.Client) -> None:
    """After its time a link is worth nothing."""
    stored.storage.write(stored.key(), [b"x"])
    if stored.kind == "folder":
        assert client.get(stored.storage.sign(Method.GET, stored.key(), -MINUTE).url).status_code == 403
        return
    url = stored.storage.sign(Method.GET, stored.key(), timedelta(seconds=1)).url
    assert any(
        client.get(url).status_code == 403 for _ in range(2000)
    )  # a bucket's link cannot be made for the past: asked until it is over


# -- links to a folder, by themselves ----------------------------------------------------------------------------------------------------


def verify(link: SignedLink, *, secret: bytes = SECRET, method: str | None = None, key: str | None = None, query: object = None) -> None:
    parts = urlsplit(link.url)
    given = parse_qsl(parts.query) if query is None else query
    verify_link(secret, method or link.method, unquote(parts.path).removeprefix("/v1/storage/") if key is None else key, given)  # type: ignore[arg-type]


def linked(*, method: Method = Method.GET, name: str | None = "a.csv", expires: timedelta = MINUTE) -> SignedLink:
    return make_link(SECRET, method, KEY, expires, name)


@pytest.mark.parametrize("name", [None, "", "a.csv", "ü&=?%20#.csv", "a" * 500, "\ud800", "a\r\nSet-Cookie: x"])
@pytest.mark.parametrize("method", Method)
def test_a_link_verifies(method: Method, name: str | None) -> None:
    """Whatever name was given, the link is good as it is, and holds no line end."""
    link = linked(method=method, name=name)
    verify(link)
    assert link.url.isascii()
    assert link.url.isprintable()


@pytest.mark.parametrize(
    "by", [{"secret": b"other"}, {"method": "PUT"}, {"method": "HEAD"}, {"key": KEY + "x"}, {"key": "../etc/passwd"}, {"key": ""}]
)
def test_a_link_is_for_what_it_was_made_for(by: dict[str, object]) -> None:
    """Another server's secret, another method, another key."""
    with pytest.raises(InvalidLinkError):
        verify(linked(), **by)  # type: ignore[arg-type]


def test_parameters_are_given_once() -> None:
    """A parameter that is missing, doubled, empty, of another alphabet or not known makes a link invalid, in whatever form it comes."""
    good = parse_qsl(urlsplit(linked().url).query)
    verify(linked(), query=dict(good))
    verify(linked(), query=MultiDict(good))
    wrong = [[pair for pair in good if pair[0] != name] for name, _ in good]
    wrong += [[*good, pair] for pair in good]
    wrong += [
        [(name, new if name == which else value) for name, value in good]
        for which, new in itertools.product(dict(good), ("", "é", "٣", "-1", "\ud800"))
    ]
    wrong += [[*good, ("other", "x")]]
    for pairs in wrong:
        for query in (pairs, MultiDict(pairs)):
            with pytest.raises(InvalidLinkError):
                verify(linked(), query=query)


def test_an_expired_link_says_so() -> None:
    with pytest.raises(InvalidLinkError, match="expired"):
        verify(linked(expires=-MINUTE))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (None, "attachment"),
        ("", "attachment"),
        ("a.csv", 'attachment; filename="a.csv"'),
        ("Prüfung.csv", "attachment; filename=\"Prufung.csv\"; filename*=UTF-8''Pr%C3%BCfung.csv"),
        ("日本.csv", "attachment; filename=\"__.csv\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.csv"),
        ('a"; filename="b.exe', 'attachment; filename="a__ filename=_b.exe"'),
        ("a\r\nX: y\0\x7f\x85", 'attachment; filename="aX_ y"'),
        ("../../etc/passwd", 'attachment; filename="_.._etc_passwd"'),
        ("gpj\u202e.exe", 'attachment; filename="gpj.exe"'),
        ("\ud800.csv", 'attachment; filename="csv"'),
        ("\uff02a\u2028.csv", "attachment; filename=\"_a.csv\"; filename*=UTF-8''%EF%BC%82a.csv"),
    ],
)
def test_names_of_downloads(name: str | None, value: str) -> None:
    """Always an attachment; the name without folders, quotes, controls and marks that turn text round, in ASCII and in full."""
    assert attachment(name) == value
