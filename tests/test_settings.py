"""Settings: where they come from, which goes first, and what a wrong one says."""

from pathlib import Path

import pytest

from penstock.errors import SettingsError
from penstock.settings import LogFormat, LogLevel, Settings, load_settings, variables

DOCS = Path(__file__).parent.parent / "docs" / "settings.md"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_without_anything_the_embedded_database_is_used(env_file: Path) -> None:
    """The defaults need no file and no variable."""
    settings = load_settings({}, env_file)
    assert settings.embedded
    assert (settings.import_workers, settings.import_chunk_size, settings.import_job_lease_seconds) == (10, 3145728, 30)
    assert settings.penstock_data_dir == Path("penstock-data")


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_name_of_a_setting_is_read(name: str, field: object, env_file: Path, tmp_path: Path) -> None:
    """The canonical variable and each alias set the field."""
    samples = {
        "database_url": "postgresql://h/d",
        "log_level": "debug",
        "log_format": "json",
        "penstock_resources": str(tmp_path),
        "public_url": "https://example.org",
        "aws_endpoint": "http://127.0.0.1:9000",
        "file_url_allowed_networks": "10.0.0.0/8,fc00::/7",
        "nats_url": "nats://127.0.0.1:4222",
        "batch_flush_interval": "50ms",
        "initial_retry_delay": "1.5",
        "max_retry_delay": "1m30s",
        "circuit_breaker_timeout": "0.2",
    }
    default = Settings.model_fields[name].default
    other = str({10: 9, 5432: 5433}.get(default, default - 1)) if isinstance(default, int) else "x"
    value = samples.get(name, str(tmp_path) if name.endswith("_dir") else other)
    for variable in variables(name, Settings.model_fields[name]):
        assert getattr(load_settings({variable: value}, env_file), name) != default


def test_the_canonical_name_goes_before_its_aliases(env_file: Path) -> None:
    """Of two names in one source the first wins."""
    assert load_settings({"IMPORT_WORKERS": "3", "WORKER_POOL_SIZE": "4"}, env_file).import_workers == 3


def test_the_environment_goes_before_the_file_even_by_an_alias(env_file: Path) -> None:
    """Who sets DB_HOST for one run means it, whatever name the file uses."""
    env_file.write_text("DATABASE_HOST=from-file\nDATABASE_PORT=5433\n")
    settings = load_settings({"DB_HOST": "from-environment"}, env_file)
    assert (settings.database_host, settings.database_port) == ("from-environment", 5433)


def test_an_empty_variable_is_not_set(env_file: Path) -> None:
    """`DATABASE_URL=` in a compose file means none, and the next source is asked."""
    env_file.write_text("IMPORT_WORKERS=2\n")
    settings = load_settings({"DATABASE_URL": "", "IMPORT_WORKERS": ""}, env_file)
    assert settings.embedded
    assert settings.import_workers == 2


def test_every_fault_is_reported_at_once(env_file: Path) -> None:
    """One start shows all that is wrong: the variable that was read, its value, where it stood, what is allowed, and the sources."""
    env_file.write_text("WORKER_POOL_SIZE=11\n")
    with pytest.raises(SettingsError) as raised:
        load_settings({"DB_PORT": "http", "LOG_LEVEL": "loud"}, env_file)
    message = raised.value.message
    assert message.startswith("3 settings are wrong:")
    assert "DB_PORT='http' (from environment): allowed is a whole number from 1 to 65535" in message
    assert f"WORKER_POOL_SIZE='11' (from {env_file}): allowed is a whole number from 1 to 10" in message
    assert "LOG_LEVEL='loud'" in message
    assert message.endswith(f"Tried: the environment, {env_file}.")
    assert [fault["variable"] for fault in raised.value.details["faults"]] == ["DB_PORT", "WORKER_POOL_SIZE", "LOG_LEVEL"]


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:hunter2@h/d", "postgresql://u:hunter2@h/d?nonsense=1", "mysql://u:hunter2@h/d"])
def test_a_secret_is_never_shown(url: str, env_file: Path) -> None:
    """Neither the message of a wrong URL nor a printed Settings holds the password."""
    with pytest.raises(SettingsError) as raised:
        load_settings({"DATABASE_URL": url}, env_file)
    assert "hunter2" not in f"{raised.value} {raised.value.details}"
    assert "DATABASE_URL=(secret)" in raised.value.message
    assert "hunter2" not in repr(load_settings({"DATABASE_PASSWORD": "hunter2", "DATABASE_URL": "postgresql://u:hunter2@h/d"}, env_file))


def test_folders_that_do_not_exist_are_refused(tmp_path: Path, env_file: Path) -> None:
    """A mistyped path is found at the start."""
    with pytest.raises(SettingsError) as raised:
        load_settings({"PENSTOCK_RESOURCES": f"{tmp_path}:{tmp_path}/absent", "IMPORT_BASE_DIR": f"{tmp_path}/absent"}, env_file)
    assert len(raised.value.details["faults"]) == 2


def test_a_file_that_is_not_text_is_refused(env_file: Path) -> None:
    """Bytes that are no UTF-8 are named, not guessed."""
    env_file.write_bytes(b"LOG_LEVEL=\xff\n")
    with pytest.raises(SettingsError, match="cannot be read as UTF-8"):
        load_settings({}, env_file)


def test_words_are_taken_in_any_case(env_file: Path) -> None:
    """LOG_LEVEL=debug and LOG_FORMAT=JSON are what they look like."""
    settings = load_settings({"LOG_LEVEL": "debug", "LOG_FORMAT": "JSON", "UNKNOWN": "1"}, env_file)
    assert (settings.log_level, settings.log_format) == (LogLevel.DEBUG, LogFormat.JSON)


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_setting_is_documented(name: str, field: object) -> None:
    """docs/settings.md has a section for each setting with its aliases, its default and its description."""
    described = Settings.model_fields[name]
    canonical, *aliases = variables(name, described)
    section = DOCS.read_text().partition(f"### {canonical}\n")[2].partition("\n### ")[0]
    assert section, f"no section {canonical}"
    assert all(f"`{alias}`" in section for alias in aliases)
    assert described.description is not None
    assert described.description in " ".join(section.split())
    shown = described.default
    shown = None if shown in (None, ()) else shown.value if hasattr(shown, "value") else shown
    assert ("Default: not set" if shown is None else f"Default: `{shown}`") in section


def test_no_section_is_left_over() -> None:
    """A setting that is gone is gone from the page."""
    sections = [line.removeprefix("### ") for line in DOCS.read_text().splitlines() if line.startswith("### ")]
    assert sections == [name.upper() for name in Settings.model_fields]
