"""`penstock doctor`: what an installation needs, checked one by one, each with what to do where it fails."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.text import Text

from penstock.cli.failures import FAILED, LANDED, print_json
from penstock.cli.options import ServerOption
from penstock.cli.session import Session
from penstock.cli.terminal import duration, plural, safe, size
from penstock.errors import PenstockError

if TYPE_CHECKING:  # psycopg and pydantic, which --help must not wait for
    from penstock.database.health import Health
    from penstock.settings import Settings

_PACKAGES = ("polars", "pyarrow", "psycopg", "msgspec", "pgpq")
_LEAST_FREE_BYTES = 1_000_000_000
_MOST_SKEW_SECONDS = 5.0
_MASK = "(set, not shown)"


class Check(NamedTuple):
    name: str
    ok: bool
    found: str
    advice: str = ""  # what to do; shown where it failed


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")] = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session
) -> int:
    """Check the installation: settings, database, data folder, resources; or a server. Exit status 1 if anything fails."""
    session: Session = ctx.obj
    checks = list(_of_server(session) if session.server else _checks(session))
    settings = settings_in_force(session.settings) if not session.server and checks[1].ok else []
    if as_json:
        print_json({"ok": all(c.ok for c in checks), "checks": [c._asdict() for c in checks], "settings": settings})
    else:
        _print(session, checks, settings)
    return LANDED if all(check.ok for check in checks) else FAILED


def _checks(session: Session) -> Iterator[Check]:
    yield Check("versions", ok=True, found=", ".join(_versions()))
    try:
        settings = session.settings
    except PenstockError as error:
        yield Check("settings", ok=False, found=error.message, advice="Mend them; docs/settings.md says what each may be.")
        return
    yield Check("settings", ok=True, found="all valid")
    yield _guarded("resources", lambda: _resources(session), "Mend the descriptor in PENSTOCK_RESOURCES.")
    yield _guarded(
        "data folder", lambda: _data_folder(settings.penstock_data_dir), "Set PENSTOCK_DATA_DIR to a folder this user may write."
    )
    yield from _database(settings)


def _of_server(session: Session) -> Iterator[Check]:
    """What the server finds of itself; of this machine only what is needed to ask it."""
    yield Check("versions", ok=True, found=f"penstock {installed('penstock')}, Python {platform.python_version()}")
    try:
        with session.connected() as server:
            health = server.health()
    except PenstockError as error:
        yield Check("server", ok=False, found=error.message, advice="Check the URL, and that `penstock serve` runs there.")
        return
    healthy = health.status == "healthy"
    found = f"penstock {health.version} at {session.server}: {health.status}"
    yield Check("server", ok=healthy, found=found, advice="Look into the server's log.")
    for name, one in health.checks.items():
        facts = one if isinstance(one, dict) else {"status": one}
        told = facts.get("message") or f"answers in {facts['ms']} ms" if "ms" in facts else str(facts.get("status"))
        yield Check(f"server's {name}", ok=facts.get("status") == "ok", found=str(told), advice="Look into the server's log.")


def _versions() -> Iterator[str]:
    yield f"penstock {installed('penstock')}"
    yield f"Python {platform.python_version()}"
    for name in _PACKAGES:
        yield f"{name} {installed(name)}"
    yield f"{platform.system()} {platform.machine()}"


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _guarded(name: str, check: Callable[[], str | Check], advice: str) -> Check:
    try:
        found = check()
    except PenstockError as error:
        return Check(name, ok=False, found=error.message, advice=advice)
    except OSError as error:
        return Check(name, ok=False, found=f"{error.filename or ''}: {error.strerror or error}", advice=advice)
    return found if isinstance(found, Check) else Check(name, ok=True, found=found)


def _resources(session: Session) -> str:
    names = [resource.name for resource in session.registry()]
    return f"{plural(len(names), 'resource')}: {', '.join(names)}"


def _data_folder(folder: Path) -> Check:
    """Writable, or to be made in a folder that is; and how much room there is."""
    where = folder.absolute()
    existing = next(path for path in (where, *where.parents) if path.exists())
    with tempfile.NamedTemporaryFile(dir=existing):
        pass
    free = shutil.disk_usage(existing).free
    spooled = [path.stat().st_size for path in (where / "spool").glob("stdin-*")]
    kept = f"; {size(sum(spooled))} of standard input kept for {plural(len(spooled), 'unfinished import')}" if spooled else ""
    state = "writable" if existing == where else "can be made"
    return Check("data folder", free >= _LEAST_FREE_BYTES, f"{where}: {state}, {size(free)} free{kept}", "Make room on that disk.")


def _database(settings: "Settings") -> Iterator[Check]:
    from penstock.database.connect import database  # noqa: PLC0415 - psycopg, which --help must not wait for
    from penstock.database.health import health  # noqa: PLC0415

    try:
        with database(settings) as db, db.connect(autocommit=True) as connection:
            where, facts = db.where, health(connection)
    except PenstockError as error:
        yield Check(
            "database",
            ok=False,
            found=error.message,
            advice="Check DATABASE_URL or DATABASE_HOST and its companions, and that PostgreSQL runs.",
        )
        return
    kind = "embedded" if settings.embedded else where
    yield Check("database", ok=True, found=f"{kind}; answers in {facts.answer_seconds * 1000:.1f} ms")
    yield Check("server", ok=True, found=f"PostgreSQL {facts.server_version}, role {facts.role}")
    yield from _facts(facts)


def _facts(facts: "Health") -> Iterator[Check]:
    missing = facts.missing_migrations
    # Missing ones alone are no fault: the next command applies them, if the role may.
    can_apply = not missing or "schema" in facts.may_create
    found = f"to be applied: {', '.join(missing)} (the next command does it)" if missing else "up to date"
    yield Check("migrations", can_apply, found, "Run `penstock migrate` as a role that may create schemas.")
    may = " and ".join(f"{what}s" for what in facts.may_create)
    yield Check("rights", "table" in facts.may_create, f"may create {may or 'nothing'}", f"GRANT CREATE ON SCHEMA public TO {facts.role}")
    ahead = "ahead of" if facts.skew_seconds > 0 else "behind"
    found = f"the server is {duration(abs(facts.skew_seconds))} {ahead} this machine"
    yield Check(
        "clocks", abs(facts.skew_seconds) <= _MOST_SKEW_SECONDS, found, "Set the clocks by NTP: signed links and tokens go by them."
    )


def settings_in_force(settings: "Settings") -> list[dict[str, Any]]:
    """Each setting with its value, secrets masked, and where it came from."""
    from dotenv import dotenv_values  # noqa: PLC0415 - not needed for --help
    from pydantic import SecretStr  # noqa: PLC0415

    from penstock.settings import Settings, variables  # noqa: PLC0415

    env_file = dotenv_values(".env") if Path(".env").is_file() else {}
    shown = []
    for name, field in Settings.model_fields.items():
        value, names = getattr(settings, name), variables(name, field)
        inside = next((v for v in names if os.environ.get(v)), None)
        beside = next((v for v in names if env_file.get(v)), None)
        source = f"environment, {inside}" if inside else f".env, {beside}" if beside else "default"
        text = _MASK if isinstance(value, SecretStr) else _plain(value)
        shown.append({"name": name.upper(), "value": text, "source": source})
    return shown


def _plain(value: Any) -> str | None:
    if value is None:
        return None
    return os.pathsep.join(map(str, value)) if isinstance(value, tuple) else str(value)


def _print(session: Session, checks: list[Check], settings: list[dict[str, Any]]) -> None:
    from penstock.cli.summary import plain_table  # noqa: PLC0415 - Rich's tables are not needed for --help

    table = plain_table(session.out, "Check", "", "Found")
    for check in checks:
        verdict = Text("ok", style="green") if check.ok else Text("failed", style="bold red")
        found = "\n".join(line for line in check.found.splitlines() if line)
        text = Text("\n").join([safe(line) for line in found.split("\n")])
        table.add_row(
            check.name, verdict, text if check.ok or not check.advice else text + safe(" -> ", "dim") + safe(check.advice, "yellow")
        )
    session.out.print(table)
    if settings:
        session.out.print()
        table = plain_table(session.out, "Setting", "Value", "From")
        for one in settings:
            table.add_row(one["name"], safe(one["value"] if one["value"] not in (None, "") else "-"), safe(one["source"], "dim"))
        session.out.print(table)
