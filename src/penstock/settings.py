"""What a process is told from outside: environment variables, or `.env` in the working folder.

The environment goes before `.env`; within one of them the canonical name goes before its aliases. An empty variable counts as not set, and
variables that are no setting are ignored. All faults are reported at once, as one SettingsError.

A further setting is one more field of `Settings`: its canonical variable is the field's name in capitals.
"""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from dotenv import dotenv_values
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from penstock.errors import SettingsError


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")  # as Go writes them: 100ms, 1m30s
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(given: Any) -> Any:
    """Seconds, from a number or a duration such as `100ms` or `1m30s`."""
    if not isinstance(given, str):
        return given
    text = given.strip()
    parts = _DURATION_PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    return text


Seconds = Annotated[float, BeforeValidator(_seconds), Field(allow_inf_nan=False)]


def _setting(default: Any, description: str, *, allowed: str, aliases: tuple[str, ...] = (), **limits: Any) -> Any:
    """A field with what an error message and the documentation say of it. `allowed` completes "allowed is ..."."""
    return Field(default, description=description, json_schema_extra={"allowed": allowed, "aliases": list(aliases)}, **limits)


class Settings(BaseSettings):
    """Every setting, checked. Make one with `load_settings`, which tells what is wrong in words."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr | None = _setting(
        None,
        "Where PostgreSQL is, as a connection URI. Goes before DATABASE_HOST and its companions. Not set, and no DATABASE_HOST either: "
        "Penstock runs a PostgreSQL of its own in PENSTOCK_DATA_DIR. A wrong one: nothing starts.",
        allowed="a postgresql:// URI, or key=value pairs as libpq takes them",
    )
    database_host: str | None = _setting(
        None,
        "Host name, address or socket folder of PostgreSQL; used when DATABASE_URL is not set.",
        allowed="a host name, an IP address or the absolute path of a folder",
        aliases=("DB_HOST",),
    )
    database_port: int = _setting(
        5432, "TCP port of PostgreSQL at DATABASE_HOST.", allowed="a whole number from 1 to 65535", aliases=("DB_PORT",), ge=1, le=65535
    )
    database_user: str | None = _setting(
        None,
        "Role to connect as at DATABASE_HOST. Not set: what libpq takes (PGUSER, else the name of the operating system's user).",
        allowed="the name of a role",
        aliases=("DB_USER",),
    )
    database_password: SecretStr | None = _setting(
        None,
        "Password of that role. Not set: what libpq finds (PGPASSWORD, ~/.pgpass), else none. Never shown or logged.",
        allowed="any text",
        aliases=("DB_PASSWORD",),
    )
    database_name: str | None = _setting(
        None,
        "Database at DATABASE_HOST. Not set: what libpq takes (PGDATABASE, else the name of the role).",
        allowed="the name of a database",
        aliases=("DB_NAME",),
    )
    penstock_data_dir: Path = _setting(
        Path("penstock-data"),
        "Folder of the embedded PostgreSQL and of local storage; made when it is absent. A relative path starts at the working folder, so "
        "starting Penstock elsewhere finds another, empty database.",
        allowed="the path of a folder",
    )
    penstock_resources: Annotated[tuple[Path, ...], NoDecode] = _setting(
        (),
        f"Files and folders of resource descriptors (YAML), besides the built-in ones; several are separated by '{os.pathsep}'.",
        allowed=f"paths of files or folders that exist, separated by '{os.pathsep}'",
    )
    import_workers: int = _setting(
        10,
        "How many database operations one process has under way at most: imports, requests and upkeep. Too high crowds out other users "
        "of the database, too low leaves its cores idle.",
        allowed="a whole number from 1 to 10",
        aliases=("WORKER_POOL_SIZE",),
        ge=1,
        le=10,
    )
    import_chunk_size: int = _setting(
        3 * 1024 * 1024,
        "Bytes of a file that are parsed and checked together. Memory grows with it; much smaller chunks cost speed.",
        allowed="a whole number of bytes from 1024 to 67108864",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    import_job_lease_seconds: int = _setting(
        30,
        "Seconds that an attempt at a job may be silent before another takes it over. Short ones take a slow process for a dead one; long "
        "ones delay the restart after a crash. Locks of a silent process are kept as long.",
        allowed="a whole number of seconds from 2 to 3600",
        ge=2,
        le=3600,
    )
    import_base_dir: Path | None = _setting(
        None,
        "Folder below which clients may name files to import (`source_path`). Not set: clients may name none.",
        allowed="the path of a folder that exists",
    )
    export_dir: Path | None = _setting(
        None,
        "Folder for the files of queued exports, where storage is a folder (no S3_BUCKET); made when it is absent. All servers and workers "
        "must share it. Not set: with all other files, below PENSTOCK_DATA_DIR/storage.",
        allowed="the path of a folder",
    )
    export_idle_seconds: int = _setting(
        60,
        "Seconds that whoever fetches a streamed export may take nothing before it is cut off: as long as it is open the database keeps "
        "old versions of changed rows for it.",
        allowed="a whole number of seconds from 1 to 3600",
        ge=1,
        le=3600,
    )
    export_total_seconds: int = _setting(
        21_600,
        "Seconds that one export may take in all.",
        allowed="a whole number of seconds from 1 to 604800",
        ge=1,
        le=604_800,
    )
    max_record_bytes: int = _setting(
        16 * 1024 * 1024,
        "Bytes of the longest record that is read; a longer one is rejected (`record_too_large`). Memory can grow by a few times as much.",
        allowed="a whole number of bytes from 1024 to 1073741824",
        ge=1024,
        le=1024 * 1024 * 1024,
    )
    http_server_host: str = _setting(
        "127.0.0.1",
        "Address that `penstock serve` listens at. Without sign-in only the machine itself may reach it: another address is refused.",
        allowed="an IP address or host name of this machine",
    )
    http_server_port: int = _setting(
        8080,
        "TCP port that `penstock serve` listens at.",
        allowed="a whole number from 1 to 65535",
        aliases=("HTTP_PORT", "PORT"),
        ge=1,
        le=65535,
    )
    public_url: str | None = _setting(
        None,
        "Where clients reach the server, for the links it gives out; behind a proxy it cannot know. Not set: the address that the client "
        "used.",
        allowed="an http:// or https:// URL without a query",
    )
    max_upload_bytes: int = _setting(
        10 * 1024 * 1024 * 1024,
        "Bytes of the largest file that clients may send, and that is fetched from a `file_url`.",
        allowed="a whole number of bytes from 1024 to 1099511627776",
        ge=1024,
        le=1024**4,
    )
    upload_idle_seconds: int = _setting(
        30,
        "Seconds that a client may send nothing in the middle of a body before it is cut off.",
        allowed="a whole number of seconds from 1 to 3600",
        ge=1,
        le=3600,
    )
    upload_total_seconds: int = _setting(
        3600,
        "Seconds that receiving one file may take, and fetching one from a `file_url`.",
        allowed="a whole number of seconds from 1 to 86400",
        ge=1,
        le=86400,
    )
    file_url_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = _setting(
        (),
        "Private networks from which `file_url` may be fetched all the same. Not set: only addresses of the public internet. Whoever may "
        "import can read what answers there.",
        allowed="networks such as 10.1.0.0/16, separated by ','",
    )
    s3_bucket: str | None = _setting(
        None,
        "Bucket for uploads and reports. Not set: the folder PENSTOCK_DATA_DIR/storage, which all servers and workers must share.",
        allowed="the name of a bucket that exists",
    )
    aws_endpoint: str | None = _setting(
        None,
        "Where the S3 API answers, if it is not Amazon's.",
        allowed="an http:// or https:// URL",
        aliases=("AWS_ENDPOINT_URL",),
    )
    aws_region: str = _setting("us-east-1", "Region of the bucket.", allowed="the name of a region")
    aws_access_key_id: str | None = _setting(
        None, "Access key for the bucket. Not set: the credentials of the machine.", allowed="an access key's id"
    )
    aws_secret_access_key: SecretStr | None = _setting(None, "Secret of that key. Never shown or logged.", allowed="any text")
    link_seconds: int = _setting(
        3600,
        "Seconds that a signed link works.",
        allowed="a whole number of seconds from 10 to 604800",
        ge=10,
        le=604_800,
    )
    job_concurrency: int = _setting(
        3,
        "How many jobs one worker has under way at once, so that a small one does not wait for a huge one. Memory grows with it.",
        allowed="a whole number from 1 to 32",
        ge=1,
        le=32,
    )
    max_job_attempts: int = _setting(
        5,
        "After how many attempts that ended without a word (a crash, a machine that went away) a job is failed instead of tried again.",
        allowed="a whole number from 1 to 100",
        ge=1,
        le=100,
    )
    workers: int = _setting(
        2,
        "How many batches of events one worker applies at once. They count among the IMPORT_WORKERS; more helps where the events are for "
        "many products.",
        allowed="a whole number from 1 to 10",
        ge=1,
        le=10,
    )
    queue_size: int = _setting(
        1_000_000,
        "How many events may wait to be applied. One more is refused (503 `queue_full`), by every server.",
        allowed="a whole number from 1 to 1000000000",
        ge=1,
        le=1_000_000_000,
    )
    batch_size: int = _setting(
        1000,
        "How many events are applied in one transaction at most. Large ones cost less each, and hold their products' rows longer.",
        allowed="a whole number from 1 to 10000",
        ge=1,
        le=10_000,
    )
    batch_flush_interval: Seconds = _setting(
        0.1,
        "How long a batch of events may wait to fill before it is applied as it is.",
        allowed="seconds, or a duration such as 100ms, from 1ms to 60s",
        ge=0.001,
        le=60,
    )
    max_retry_attempts: int = _setting(
        5,
        "How often an event that fails for a reason that may pass is tried; after that it is a dead letter. Outages of the database do not "
        "count.",
        allowed="a whole number from 1 to 100",
        ge=1,
        le=100,
    )
    initial_retry_delay: Seconds = _setting(
        0.1,
        "How long the first retry of an event waits. The pause doubles with each, and is varied by chance.",
        allowed="seconds, or a duration such as 100ms, from 1ms to 1h",
        ge=0.001,
        le=3600,
    )
    max_retry_delay: Seconds = _setting(
        30.0,
        "The longest pause between two attempts at an event.",
        allowed="seconds, or a duration such as 30s, from 1ms to 24h",
        ge=0.001,
        le=86_400,
    )
    circuit_breaker_threshold: int = _setting(
        5,
        "After how many outages in a row the database (or NATS) is left alone for CIRCUIT_BREAKER_TIMEOUT: events are answered 503 at "
        "once.",
        allowed="a whole number from 1 to 1000",
        ge=1,
        le=1000,
    )
    circuit_breaker_timeout: Seconds = _setting(
        5.0,
        "How long that lasts; then one try decides. It is told to senders as Retry-After.",
        allowed="seconds, or a duration such as 5s, from 10ms to 1h",
        ge=0.01,
        le=3600,
    )
    event_id_retention_hours: int = _setting(
        168,
        "Hours that an applied event_id is remembered. An event that is sent again later is applied again, which changes nothing unless it "
        "has no occurred_at.",
        allowed="a whole number of hours from 1 to 87600",
        ge=1,
        le=87_600,
    )
    nats_url: SecretStr | None = _setting(
        None,
        "Where NATS with JetStream is, to keep events there until they are applied. Not set: they are kept in the database.",
        allowed="nats:// or tls:// URLs, separated by ','",
    )
    nats_stream: str = _setting(
        "PENSTOCK_EVENTS",
        "The stream there, made when it is absent; one for each database.",
        allowed="a name of 1 to 64 letters, digits, '-' and '_'",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
    )
    shutdown_grace_seconds: int = _setting(
        20,
        "Seconds that a server or worker takes at most to stop: requests under way are finished, jobs are handed over, "
        "events that wait are applied.",
        allowed="a whole number of seconds from 1 to 600",
        ge=1,
        le=600,
    )
    file_retention_hours: int = _setting(
        168,
        "Hours that the files of finished jobs are kept: what was sent, and the reports. Later a job cannot be retried.",
        allowed="a whole number of hours from 1 to 87600",
        ge=1,
        le=87_600,
    )
    job_retention_days: int = _setting(
        90,
        "Days that finished jobs are kept, with their rejected records.",
        allowed="a whole number of days from 1 to 36500",
        ge=1,
        le=36_500,
    )
    connection_timeout: int = _setting(
        10,
        "Seconds to wait for a connection to PostgreSQL before giving up. Short ones fail while a busy server restarts.",
        allowed="a whole number of seconds from 1 to 300",
        ge=1,
        le=300,
    )
    log_level: LogLevel = _setting(
        LogLevel.INFO, "The least important messages that are logged.", allowed="one of DEBUG, INFO, WARNING, ERROR"
    )
    log_format: LogFormat = _setting(
        LogFormat.CONSOLE,
        "How log lines on standard error look: `console` for people, `json` (one object per line) for machines.",
        allowed="one of console, json",
    )

    @property
    def embedded(self) -> bool:
        """Whether Penstock runs its own PostgreSQL."""
        return self.database_url is None and self.database_host is None

    @field_validator("database_url")
    @classmethod
    def _is_conninfo(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            try:
                conninfo_to_dict(url.get_secret_value())
            except ProgrammingError:
                # libpq's message quotes the string, password and all.
                raise ValueError("not a connection string") from None
        return url

    @field_validator("penstock_resources", mode="before")
    @classmethod
    def _split_paths(cls, paths: Any) -> Any:
        return tuple(Path(path) for path in paths.split(os.pathsep) if path) if isinstance(paths, str) else paths

    @field_validator("penstock_resources")
    @classmethod
    def _paths_exist(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        if missing := [str(path) for path in paths if not path.exists()]:
            raise ValueError(f"{', '.join(missing)} does not exist")
        return paths

    @field_validator("file_url_allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, networks: Any) -> Any:
        return tuple(part.strip() for part in networks.split(",") if part.strip()) if isinstance(networks, str) else networks

    @field_validator("public_url", "aws_endpoint")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("not a URL")
        return url.rstrip("/") if url else url

    @field_validator("nats_url")
    @classmethod
    def _are_nats_urls(cls, urls: SecretStr | None) -> SecretStr | None:
        for url in urls.get_secret_value().split(",") if urls is not None else ():
            parts = urlsplit(url.strip())
            if parts.scheme not in ("nats", "tls") or not parts.hostname:
                raise ValueError("not a URL of NATS")
        return urls

    @field_validator("import_base_dir")
    @classmethod
    def _is_folder(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError("no such folder")
        return path

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, word: Any, info: Any) -> Any:
        return (word.upper() if info.field_name == "log_level" else word.lower()) if isinstance(word, str) else word

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings gives the signature; likewise below
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` passes in.

        pydantic's own sources put a canonical name in `.env` before an alias in the environment, and cannot say where a value came from.
        """
        return (init_settings,)


class _Found(NamedTuple):
    value: str
    variable: str
    source: str


def variables(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The variables that a setting is read from, the canonical one first."""
    return (name.upper(), *_extra(field)["aliases"])


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path = Path(".env")) -> Settings:
    """The settings of this process. Raises SettingsError, which lists every fault and the sources tried."""
    sources = {"environment": os.environ if environ is None else environ, str(env_file.absolute()): _read_env_file(env_file)}
    found = {name: value for name, field in Settings.model_fields.items() if (value := _find(variables(name, field), sources))}
    try:
        return Settings.model_validate({name: value.value for name, value in found.items()})
    except ValidationError as error:
        faults = [_fault(str(fault["loc"][0]), found) for fault in error.errors(include_input=False, include_url=False)]
    shown = "".join(f"\n  {fault['variable']}={fault['value']} (from {fault['source']}): allowed is {fault['allowed']}" for fault in faults)
    tried = ["the environment", str(env_file.absolute()) + ("" if env_file.is_file() else " (no such file)")]
    count = "1 setting is" if len(faults) == 1 else f"{len(faults)} settings are"
    raise SettingsError(f"{count} wrong:{shown}\nTried: {', '.join(tried)}.", faults=faults, sources=tried)


def _read_env_file(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.absolute()} cannot be read as UTF-8 text: {type(error).__name__}. Mend or remove it.") from error


def _find(names: tuple[str, ...], sources: Mapping[str, Mapping[str, str]]) -> _Found | None:
    candidates = (_Found(values[name], name, source) for source, values in sources.items() for name in names if values.get(name))
    return next(candidates, None)


def _fault(name: str, found: Mapping[str, _Found]) -> dict[str, str]:
    value, variable, source = found[name]
    field = Settings.model_fields[name]
    secret = "SecretStr" in str(field.annotation)
    return {"variable": variable, "value": "(secret)" if secret else repr(value), "source": source, "allowed": _extra(field)["allowed"]}


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return extra
