"""`penstock resources`, `sample`, `doctor`, `version`."""

import tomllib
from pathlib import Path

import pytest

from penstock.settings import Settings
from tests.cli.conftest import Command

ROOT = Path(__file__).parents[2]


def test_resources_are_listed_and_described(penstock: Command) -> None:
    """Names, keys and references; fields with their rules in words; the same as JSON."""
    listed = penstock("resources").out
    assert all(name in listed for name in ("users", "articles", "comments", "products"))
    shown = penstock("resources", "articles").out
    assert "one of draft, published, archived" in shown
    assert "author_id refers to users; or give author_email" in shown
    assert "draft_cannot_have_published_at" in shown
    assert "zip_code" in penstock("resources", "users").out
    described = penstock("resources", "articles", "--json").json
    fields = {field["name"]: field for field in described["fields"]}
    assert fields["status"]["enum"] == ["draft", "published", "archived"]
    assert described["references"] == [{"field": "author_id", "resource": "users", "alias": "author_email"}]
    assert {one["name"] for one in penstock("resources", "--json").json["items"]} >= {"users", "products"}


def test_an_unknown_resource_is_a_usage_error(penstock: Command) -> None:
    """Status 2, and the message names what there is."""
    outcome = penstock("resources", "user")
    assert outcome.status == 2
    assert "users" in outcome.err


def test_sample_writes_the_files_and_says_what_is_in_them(penstock: Command, tmp_path: Path) -> None:
    """Four files, and the commands that import them; the manifest as JSON."""
    outcome = penstock("sample", "made", "--scale", "0.01")
    assert outcome.status == 0
    assert "penstock import users made/users.csv" in outcome.out
    assert len(list((tmp_path / "made").iterdir())) == 4
    manifest = penstock("sample", "made", "--scale", "0.01", "--json").json
    assert all(file["records"] == file["imported"] + file["updated"] + file["rejected"] for file in manifest["files"])
    assert penstock("sample", "made", "--scale", "0").status == 2


def test_a_folder_that_cannot_be_made_is_told(penstock: Command, tmp_path: Path) -> None:
    """One line with the reason; status 1."""
    (tmp_path / "file").write_text("")
    outcome = penstock("sample", "file/below")
    assert outcome.status == 1
    assert "(io_error)" in outcome.err


def test_version(penstock: Command) -> None:
    """The command, the option and the package agree."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert penstock("version").out == f"penstock {version}\n"
    assert penstock("--version").out == f"penstock {version}\n"
    assert penstock("version", "--json").json == {"penstock": version}


def test_doctor_tells_what_is_wrong_with_the_settings(penstock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fails with the variable's name and what is allowed; status 1."""
    monkeypatch.setenv("IMPORT_WORKERS", "99")
    outcome = penstock("doctor", "--json")
    assert outcome.status == 1
    assert not outcome.json["ok"]
    [fault] = [check for check in outcome.json["checks"] if not check["ok"]]
    assert "IMPORT_WORKERS" in fault["found"]
    assert fault["advice"]


def test_doctor_tells_that_the_database_is_away_and_shows_no_secret(
    penstock: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All checks run; settings come with their source, secrets masked."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:hunter2@127.0.0.1:1/x")
    (tmp_path / ".env").write_text("WORKER_POOL_SIZE=3\n")
    outcome = penstock("doctor", "--json")
    assert outcome.status == 1
    assert {check["name"]: check["ok"] for check in outcome.json["checks"]} == {
        "versions": True,
        "settings": True,
        "resources": True,
        "data folder": True,
        "database": False,
    }
    settings = {one["name"]: one for one in outcome.json["settings"]}
    assert settings.keys() == {name.upper() for name in Settings.model_fields}
    assert settings["DATABASE_URL"]["source"] == "environment, DATABASE_URL"
    assert settings["IMPORT_WORKERS"] == {"name": "IMPORT_WORKERS", "value": "3", "source": ".env, WORKER_POOL_SIZE"}
    assert settings["LOG_FORMAT"]["source"] == "default"
    plain = penstock("doctor")
    assert "hunter2" not in outcome.out + outcome.err + plain.out + plain.err
    assert "Check DATABASE_URL" in plain.out
