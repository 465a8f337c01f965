"""Dead letters: the same commands on this machine's database and on a server, and events from the client to the product."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import get_args

import psycopg
import pytest

from penstock.cli.dead_letters import Code
from penstock.cli.main import run
from penstock.client import EventStatus, Server
from penstock.events import patience
from penstock.logs import configure_logs
from penstock.settings import LogLevel
from tests.cli.conftest import Command, Outcome
from tests.cli.fakes import HOSTILE
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import Served, serving
from tests.support.waiting import until

NOBODY = "ffffffff-ffff-4fff-8fff-ffffffffffff"
PRODUCT = HOSTILE.removesuffix("\ud800").replace("\u202e", "")  # a database takes neither


@dataclass(frozen=True)
class Place:
    """A server without a worker, so that what is sent into the log is still there to be counted; and how the commands get there."""

    conninfo: str
    served: Served
    options: tuple[str, ...]

    def waiting(self) -> list[tuple[str, Decimal, int]]:
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute("SELECT product_id, price, stock FROM penstock.events ORDER BY position").fetchall()

    def letters(self) -> int:
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute("SELECT count(*) FROM penstock.dead_letters").fetchall()[0][0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def site(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Served]]:
    folder = tmp_path_factory.mktemp("letters")
    penstock = Penstock(folder)
    with postgres.fresh_database() as conninfo:
        try:
            env = {"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(folder / "data")}
            with serving(penstock, "--no-worker", env=env) as served:
                yield conninfo, served
        finally:
            penstock.end()


@pytest.fixture(params=["here", "server"])
def place(request: pytest.FixtureRequest, site: tuple[str, Served]) -> Place:
    """Three dead letters, the newest of them no event; nothing waits."""
    conninfo, served = site
    with psycopg.connect(conninfo) as connection:
        connection.execute("DELETE FROM penstock.dead_letters")
        connection.execute("DELETE FROM penstock.events")
        for number, (product_id, code) in enumerate([("p1", "refused_by_database"), (PRODUCT, "retries_exhausted")]):
            connection.execute(
                "INSERT INTO penstock.dead_letters (product_id, price, stock, occurred_at, accepted_at, code, reason, attempts, died_at) "
                "VALUES (%s, 49.90, %s, now(), now(), %s, %s, 1, now() - interval '1 hour' + make_interval(mins => %s))",
                [product_id, number + 7, code, "check_violation (23514), positive_margin", number],
            )
        connection.execute(
            "INSERT INTO penstock.dead_letters (raw, code, reason, attempts) VALUES ('\\x00ff', 'invalid_event', 'no event', 0)"
        )
    return Place(conninfo, served, ("--server", served.url) if request.param == "server" else ())


@pytest.fixture
def command(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nobody" if place.options else place.conninfo)

    def execute(*arguments: object) -> Outcome:
        capfd.readouterr()
        sys.stdout.flush()
        return Outcome(run([*map(str, arguments), *place.options]), *capfd.readouterr())

    yield execute
    configure_logs(LogLevel.INFO)


def _ids(command: Command, *options: str) -> list[str]:
    return [item["dead_letter_id"] for item in command("dead-letters", "--json", *options).json["items"]]


def test_they_are_listed_newest_first(command: Command) -> None:
    """Alike in both places: exact prices, times, and what is no event as text."""
    items = command("dead-letters", "--json").json["items"]
    assert [(item["product_id"], item["price"], item["stock"], item["attempts"]) for item in items] == [
        (None, None, None, 0),
        (PRODUCT, 49.9, 8, 1),
        ("p1", 49.9, 7, 1),
    ]
    assert items[0]["raw"] == r"\x00\xff"
    assert all(later["died_at"] > earlier["died_at"] for later, earlier in pairwise(items))
    assert '"price":49.90,' in command("dead-letters", "--json").out


def test_they_are_picked_by_product_code_and_number(command: Command) -> None:
    """One page or several; none is told in words."""
    newest, second, oldest = _ids(command)
    assert _ids(command, "--limit", "2") == [newest, second]
    assert _ids(command, "--product", "p1") == [oldest]
    assert _ids(command, "--code", "retries_exhausted") == [second]
    assert command("dead-letters", "--product", "p2").out == "No such dead letters.\n"
    assert command("dead-letters", "--code", "nonsense").status == 2


def test_a_table_cannot_steer_the_terminal(command: Command) -> None:
    """A product's id is a stranger's text."""
    shown = command("dead-letters").out
    assert "\x1b" not in shown
    assert r"\x1b[31m[bold red]x[/]\r" in shown
    assert "(no event)" in shown
    assert "positive_margin" in shown
    assert len(shown.splitlines()) == 4


def test_one_is_sent_into_the_log_again(command: Command, place: Place) -> None:
    """As the event that it was, and is no dead letter then; a second time there is none."""
    (letter,) = _ids(command, "--product", "p1")
    assert command("replay", letter).out == "1 dead letter sent into the log again.\n"
    assert place.waiting() == [("p1", Decimal("49.90"), 7)]
    assert letter not in _ids(command)
    outcome = command("replay", letter, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (1, "dead_letter_not_found")


def test_all_are_sent_but_what_is_no_event(command: Command, place: Place) -> None:
    """Or all of one code; the oldest first."""
    assert command("replay", "--all", "--code", "retries_exhausted", "--json").json == {"replayed": 1}
    assert command("replay", "--all", "--product", "p1", "--json").json == {"replayed": 1}
    assert [row[0] for row in place.waiting()] == [PRODUCT, "p1"]
    assert place.letters() == 1
    assert command("replay", "--all").out == "0 dead letters sent into the log again.\n"


def test_what_is_no_event_can_only_be_discarded(command: Command, place: Place) -> None:
    """And only once."""
    (letter,) = _ids(command, "--code", "invalid_event")
    outcome = command("replay", letter, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (1, "invalid_state")
    assert command("discard", letter.upper()).out == "1 dead letter discarded.\n"
    assert (place.letters(), place.waiting()) == (2, [])
    assert command("discard", letter).status == 1


@pytest.mark.parametrize("arguments", [["replay", NOBODY], ["discard", NOBODY], ["replay", "x"], ["discard", "a/b"]])
def test_what_is_no_dead_letter_is_told(command: Command, arguments: list[str]) -> None:
    """By one code, also for what is no id."""
    outcome = command(*arguments)
    assert outcome.status == 1
    assert "(dead_letter_not_found)" in outcome.err


@pytest.mark.parametrize("arguments", [[], [NOBODY, "--all"], [NOBODY, "--product", "p1"]])
def test_a_replay_says_of_what(command: Command, place: Place, arguments: list[str]) -> None:
    """One or all: nothing is guessed."""
    outcome = command("replay", *arguments, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (2, "invalid_option")
    assert place.letters() == 3


def test_the_codes_are_those_of_the_events() -> None:
    """The command knows them without the libraries behind."""
    assert set(get_args(Code)) == {patience.INVALID_EVENT, patience.REFUSED_BY_DATABASE, patience.RETRIES_EXHAUSTED}


def test_from_the_client_to_the_product_and_the_dead_letters(postgres: TestServer, tmp_path: Path) -> None:
    """Good events change products, one that a rule of the table refuses is a dead letter until the rule is gone."""
    penstock = Penstock(tmp_path)
    with postgres.fresh_database() as conninfo:
        env = {"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(tmp_path / "data")}
        try:
            with serving(penstock, env=env) as served, Server(served.url) as server:
                _rule(conninfo, "ADD CONSTRAINT positive_margin CHECK (price <> 13)")
                events = [{"product_id": f"p/{number}", "price": Decimal(number), "stock": number} for number in range(1500)]
                sent = list(server.send_events([*events, {"product_id": "p/x", "price": Decimal("0.001"), "stock": 1}]))
                assert [one.status for one in sent] == [EventStatus.ACCEPTED] * 1500 + [EventStatus.REJECTED]
                assert sent[-1].error is not None
                assert sent[-1].error.details is not None
                assert sent[-1].error.details["field"] == "price"
                assert server.send_event({"product_id": "p/1", "price": Decimal("9.5"), "stock": 5}).status is EventStatus.ACCEPTED
                assert until(lambda: _count(conninfo) == 1499)
                assert until(lambda: server.record("products", "p/1")["price"] == 9.5)
                assert until(lambda: [letter.product_id for letter in server.dead_letters()] == ["p/13"])
                (letter,) = server.dead_letters(code="refused_by_database")
                assert "positive_margin" in letter.reason
                assert server.dead_letter(letter.dead_letter_id) == letter
                _rule(conninfo, "DROP CONSTRAINT positive_margin")
                assert server.replay(letter.dead_letter_id) is EventStatus.ACCEPTED
                assert until(lambda: _count(conninfo) == 1500)
                assert server.record("products", "p/13")["stock"] == 13
                assert list(server.dead_letters()) == []
        finally:
            penstock.end()


def _rule(conninfo: str, change: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(f"ALTER TABLE products {change}")


def _count(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("SELECT count(*) FROM products").fetchall()[0][0]  # type: ignore[no-any-return]
