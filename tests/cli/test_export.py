"""`penstock export`, on this machine's database and on a server: what it writes, what it refuses, what it says."""

import csv
import gzip
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import polars as pl
import pytest
import zstandard

from penstock.cli import targets
from penstock.cli.exporting import CompressionName
from penstock.cli.main import run
from penstock.formats.model import Compression
from penstock.logs import configure_logs
from penstock.settings import LogLevel
from tests.cli.conftest import Command, Outcome
from tests.support.commands import Penstock
from tests.support.postgres import TestServer
from tests.support.serving import serving

USERS: list[dict[str, Any]] = [
    {"email": "ann@example.com", "name": "=1+1", "role": "admin", "phone_number": "007", "created_at": "2024-01-02T03:04:05Z"},
    {"email": "bob@example.com", "name": 'B "the, comma"\nB', "created_at": "2024-02-02T03:04:05.000007Z", "addresses": []},
    {
        "email": "cy@example.com",
        "name": "Łódź 東京 \u2028",
        "active": False,
        "addresses": [{"street": "'s", "city": "B", "state": "C", "zip_code": "00100", "country": "IT"}],
    },
]
NAMES = ["users.csv", "users.ndjson", "users.jsonl", "users.json", "users.parquet"]
PACKED = [f"{name}{ending}" for name in NAMES[:-1] for ending in (".gz", ".zst")]


@dataclass(frozen=True)
class Place:
    conninfo: str
    server: str | None


@pytest.fixture(scope="module", params=["here", "server"])
def place(request: pytest.FixtureRequest, postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    penstock = Penstock(folder)
    with postgres.fresh_database() as conninfo:
        env = {"DATABASE_URL": conninfo, "PENSTOCK_DATA_DIR": str(folder / "data")}
        (folder / "users.ndjson").write_bytes(b"\n".join(map(msgspec.json.encode, USERS)))
        assert penstock("import", "users", "users.ndjson", env=env).returncode == 0
        try:
            if request.param == "here":
                yield Place(conninfo, None)
            else:
                with serving(penstock, env=env) as served:
                    yield Place(conninfo, served.url)
        finally:
            penstock.end()


@pytest.fixture
def command(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command at the place, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nobody" if place.server else place.conninfo)

    def execute(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = run([*map(str, arguments), *(("--server", place.server) if place.server else ())])
        return Outcome(status, *capfd.readouterr())

    yield execute
    configure_logs(LogLevel.INFO)


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    match path.suffix:
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            return zstandard.ZstdDecompressor().stream_reader(data).read()
    return data


def test_compressions_offered_are_the_compressions_there_are() -> None:
    """Their own type is too costly for --help."""
    assert list(get_args(CompressionName)) == [each.value for each in Compression]


@pytest.mark.parametrize("name", NAMES + PACKED)
def test_there_and_back_again(command: Command, tmp_path: Path, name: str) -> None:
    """The ending tells format and compression; what was exported imports again, all of it unchanged."""
    outcome = command("export", "users", name)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"{name} from users" in outcome.out
    back = command("import", "users", name, "--json")
    assert back.status == 0, back.out
    counted = [back.json[key] for key in ("total_rows", "unchanged_rows", "failed_rows")]
    assert counted == [3, 3, 0]
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == [name]


@pytest.mark.parametrize("name", ["users.csv", "users.ndjson", "users.json"])
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_holds_the_same(command: Command, tmp_path: Path, name: str, ending: str) -> None:
    """Byte for byte."""
    for file in (name, name + ending):
        assert command("export", "users", file, "-q").status == 0
    assert (tmp_path / (name + ending)).read_bytes() != (tmp_path / name).read_bytes()
    assert unpacked(tmp_path / (name + ending)) == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", [*NAMES, "users.csv.gz"])
def test_a_server_gives_the_same_bytes(place: Place, command: Command, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command gives on the same database."""
    assert command("export", "users", name, "-q").status == 0
    monkeypatch.setenv("DATABASE_URL", place.conninfo)
    assert run(["export", "users", f"here-{name}", "-q"]) == 0
    assert (tmp_path / f"here-{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_standard_output_holds_records_only(command: Command) -> None:
    """NDJSON unless asked otherwise; the summary goes to standard error, as JSON too."""
    for arguments in ((), ("-",)):
        outcome = command("export", "users", *arguments)
        assert outcome.status == 0
        assert sorted(line["email"] for line in outcome.lines) == [user["email"] for user in USERS]
        assert "standard output from users (ndjson): completed" in outcome.err
    outcome = command("export", "users", "--format", "csv", "--fields", "name,email", "--json")
    assert outcome.out.startswith("name,email\n")
    told = json.loads(outcome.err)
    assert told["size_bytes"] == len(outcome.out.encode())
    assert told["sha256"] == hashlib.sha256(outcome.out.encode()).hexdigest()
    assert command("export", "users", "--quiet").err == ""


def test_errors_keep_out_of_standard_output(command: Command) -> None:
    """Where that is to hold records, errors go beside it, as JSON too."""
    outcome = command("export", "users", "--filter", "shoe=44", "--json")
    assert (outcome.status, outcome.out) == (2, "")
    assert json.loads(outcome.err)["error"]["code"] == "invalid_filter"
    outcome = command("export", "users", "users.csv", "--filter", "shoe=44", "--json")
    assert (outcome.json["error"]["code"], outcome.err) == ("invalid_filter", "")


def test_the_summary(place: Place, command: Command, tmp_path: Path) -> None:
    """How much, and how long it took; a server does not say how many records there were."""
    told = command("export", "users", "users.csv.gz", "--filter", "role[in]=admin,editor", "--json").json
    data = (tmp_path / "users.csv.gz").read_bytes()
    assert {name: told[name] for name in ("resource", "file", "format", "compression", "filters", "rows", "size_bytes", "sha256")} == {
        "resource": "users",
        "file": "users.csv.gz",
        "format": "csv",
        "compression": "gzip",
        "filters": ["role[in]=admin,editor"],
        "rows": None if place.server else 1,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    shown = command("export", "users", "u.csv").out
    assert ("Records" in shown) is (place.server is None)
    assert "Size" in shown


def test_fields_filters_and_formats_are_those_asked_for(command: Command, tmp_path: Path) -> None:
    """--format and --compression go before the ending; fields in their order; all filters hold."""
    assert command("export", "users", "u.txt", "--format", "csv", "--fields", "name", "--fields", "email,role").status == 0
    assert (tmp_path / "u.txt").read_text().splitlines()[0] == "name,email,role"
    assert command("export", "users", "u.json", "--format", "ndjson", "--compression", "zstd").status == 0
    assert len(zstandard.ZstdDecompressor().stream_reader((tmp_path / "u.json").read_bytes()).read().splitlines()) == 3
    found = command("export", "users", "--filter", "created_at[lt]=2024-02-01T00:00:00Z", "--filter", "role[ne]=reader").lines
    assert [user["name"] for user in found] == ["=1+1"]
    assert command("export", "users", "u.parquet", "--fields", "email", "--filter", "username==1+1").status == 0
    assert pl.read_parquet(tmp_path / "u.parquet").to_dicts() == [{"email": "ann@example.com"}]


def test_a_spreadsheet_is_safe_and_comes_back(command: Command, tmp_path: Path) -> None:
    """A cell like a formula is text there, and the same record again here."""
    assert command("export", "users", "u.csv", "--spreadsheet").status == 0
    text = (tmp_path / "u.csv").read_bytes().decode("utf-8-sig")
    assert "'=1+1" in {row["name"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert command("import", "users", "u.csv", "--json").json["unchanged_rows"] == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense", "x.csv"], "unknown_resource"),
        (["users", "x.txt"], "invalid_option"),
        (["users", "x"], "invalid_option"),
        (["users", "x.gz"], "invalid_option"),
        (["users", "x.csv", "--fields", "shoe"], "invalid_option"),
        (["users", "x.csv", "--fields", ""], "invalid_option"),
        (["users", "x.csv", "--filter", "role"], "invalid_filter"),
        (["users", "x.csv", "--filter", "role=king"], "invalid_filter"),
        (["users", "x.csv", "--filter", "role=admin", "--filter", "role=user"], "invalid_filter"),
        (["users", "x.csv", "--filter", "format=json"], "invalid_filter"),
        (["users", "x.csv", "--filter", "spreadsheet=true"], "invalid_filter"),
        (["users", "x.json", "--spreadsheet"], "invalid_option"),
        (["users", "x.parquet.gz"], "invalid_option"),
        (["users", "none/x.csv"], "invalid_option"),
        (["users", ".", "--format", "csv"], "invalid_option"),
        (["users", "", "--format", "csv"], "invalid_option"),
    ],
)
def test_what_can_never_work_is_refused(command: Command, tmp_path: Path, arguments: list[str], code: str) -> None:
    """Exit status 2, the same code here and there, and nothing is left."""
    outcome = command("export", *arguments, "--json")
    assert (outcome.status, outcome.json["error"]["code"]) == (2, code), outcome
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []


def test_a_file_is_replaced_only_by_force(command: Command, tmp_path: Path) -> None:
    """It keeps its mode; the message says what to do. A file that is refused or cannot be exported keeps its bytes."""
    path = tmp_path / "users.csv"
    path.write_text("mine")
    path.chmod(0o640)
    outcome = command("export", "users", "users.csv")
    assert outcome.status == 2
    assert "--force" in outcome.err
    assert command("export", "users", "users.csv", "--force", "--filter", "shoe=1").status == 2
    assert path.read_text() == "mine"
    assert command("export", "users", "users.csv", "--force").status == 0
    assert path.read_text().startswith("id,email,")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_comes_meanwhile_is_not_replaced(
    place: Place, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --force, also where it came while the export was written."""
    writing = targets.NewFile.write

    def write(self: targets.NewFile, block: bytes) -> None:
        (tmp_path / "users.csv").write_text("theirs")
        writing(self, block)

    monkeypatch.setattr(targets.NewFile, "write", write)
    outcome = command("export", "users", "users.csv")
    assert (outcome.status, (tmp_path / "users.csv").read_text()) == (2, "theirs")
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["users.csv"]


def test_links_stay_links(command: Command, tmp_path: Path) -> None:
    """The file that they lead to is made, or replaced by force."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.csv").symlink_to("deep/users.csv")
    assert command("export", "users", "link.csv").status == 0
    assert command("export", "users", "link.csv").status == 2
    assert command("export", "users", "link.csv", "--force", "--fields", "email").status == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "deep" / "users.csv").read_text().startswith("email\n")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["users.csv"]


def test_devices_and_pipes_are_written_as_they_are(command: Command, tmp_path: Path) -> None:
    """NDJSON unless asked otherwise; nothing is made beside them."""
    before = Path("/dev/null").stat().st_ino
    assert command("export", "users", "/dev/null").status == 0
    assert Path("/dev/null").stat().st_ino == before
    os.mkfifo(tmp_path / "pipe")
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    outcome = command("export", "users", "pipe")
    reader.join(30)
    assert outcome.status == 0
    assert len(taken[0].splitlines()) == 3
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_device_is_told(command: Command) -> None:
    """With its name and what is wrong, status 1."""
    outcome = command("export", "users", "/dev/full")
    assert outcome.status == 1
    assert "/dev/full: No space left on device" in outcome.err


def test_a_name_that_is_no_text(command: Command, tmp_path: Path) -> None:
    """Written, and shown as an escape."""
    name = os.fsdecode(b"\xff[a*]\x1b.csv")
    outcome = command("export", "users", name)
    assert outcome.status == 0
    assert r"\udcff[a*]\x1b.csv from users" in outcome.out
    assert (tmp_path / name).exists()
    assert command("export", "users", name, "--force", "--json").json["file"] == r"\udcff[a*]\x1b.csv"


def test_an_export_of_nothing(command: Command, tmp_path: Path) -> None:
    """A valid file of no records in every format, which imports as one."""
    for name in NAMES:
        assert command("export", "articles", name).status == 0
    assert (tmp_path / "users.ndjson").read_bytes() == b""
    assert json.loads((tmp_path / "users.json").read_bytes()) == []
    assert len((tmp_path / "users.csv").read_bytes().splitlines()) == 1
    assert pl.read_parquet(tmp_path / "users.parquet").height == 0
