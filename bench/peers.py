"""Other loaders beside Penstock, each a process of its own that reads the same CSV file into the same bare table.

They come from the package index into a virtualenv of their own. One that cannot be installed is left out, and the table says so.
"""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench import data
from bench.loads import check
from bench.processes import Command, Finished, timed
from bench.server import Server, count, url

LIMIT_SECONDS = 180
_VIRTUALENV = Path(__file__).parent.parent / ".cache" / "bench-peers"
_PYTHON = _VIRTUALENV / "bin" / "python"
_LOADERS = Path(__file__).parent / "loaders"
_INSTALL_SECONDS = 600
# The package `sling` fetches its program from elsewhere when it first runs. These bring it along, in an older version.
_SLING = {"x86_64": "sling-linux-amd64", "aarch64": "sling-linux-arm64"}.get(platform.machine() if sys.platform == "linux" else "")


@dataclass(frozen=True, slots=True)
class Peer:
    """`packages`: what is installed, the peer itself first; `script` in bench/loaders; `share` of the records that it is given."""

    name: str
    title: str
    packages: tuple[str, ...]
    script: str | None = None
    share: float = 1.0


PEERS = (
    Peer("sling", "sling", (_SLING,) if _SLING else ()),
    Peer("write_row", "psycopg, COPY with write_row", ("psycopg[binary]",), "write_row.py"),
    Peer("adbc", "Polars with ADBC", ("adbc-driver-postgresql", "polars", "pyarrow"), "polars_adbc.py"),
    Peer("dlt", "dlt, Arrow to CSV to COPY", ("dlt[postgres]", "pyarrow"), "dlt_arrow.py"),
    # At this speed a tenth is enough to wait for. The indexes stay smaller than those of the others, which flatters it.
    Peer("pandas", "pandas to_sql, a tenth of the records", ("pandas", "sqlalchemy", "psycopg[binary]"), "pandas_to_sql.py", share=0.1),
)


class AbsentError(Exception):
    """The peer cannot be had here."""


def install(peer: Peer) -> str:
    """Its version. Quick when it is there already. Raises AbsentError with the reason."""
    if not peer.packages:
        raise AbsentError("no program for this platform in the package index")
    try:
        if not _PYTHON.exists():
            _run([sys.executable, "-m", "venv", _VIRTUALENV])
        uv = Path(sys.executable).with_name("uv")
        pip: Command = [uv, "pip", "install", "--python", _PYTHON] if uv.exists() else [_PYTHON, "-m", "pip", "install"]
        _run([*pip, "--quiet", *peer.packages])
        named = peer.packages[0].partition("[")[0]
        return _run([_PYTHON, "-c", f"import importlib.metadata as m; print(m.version({named!r}))"]).strip()
    except subprocess.CalledProcessError as error:
        raise AbsentError(str(error.stderr or error.stdout).strip()[-2000:]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AbsentError(str(error)) from error


def load(server: Server, peer: Peer, rows: int) -> Finished:
    """One load of the first `rows` records into an empty table. Raises ProgramFailedError, also past `LIMIT_SECONDS`."""
    file = data.csv_file(rows)
    with server.database(with_table=True) as conninfo:
        target = {"BENCH_CONNINFO": conninfo, "BENCH_URL": url(conninfo)}
        command = [_PYTHON, _LOADERS / peer.script, file] if peer.script else _sling(file)
        server.settle()
        run = timed(command, env={**target, **_quiet()}, limit_seconds=LIMIT_SECONDS)
        check({"rows in the table": count(conninfo)}, {"rows in the table": rows}, peer.title)
    return run


def _quiet() -> dict[str, str]:
    """No telemetry, and nothing kept in the user's home."""
    return {
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_HOME_DIR": str(_VIRTUALENV / "sling-home"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": str(_VIRTUALENV / "dlt-home"),
    }


def _sling(file: Path) -> Command:
    assert _SLING is not None
    named = _SLING.replace("-", "_")
    program = Path(_run([_PYTHON, "-c", f"import {named}; print({named}.SLING_BIN)"]).strip())
    program.chmod(0o755)  # wheels are unpacked without it
    # `truncate` keeps the table with its keys; its usual mode would make another without. The target is the variable of that name.
    return [program, "run", "--src-stream", file.as_uri(), "--tgt-conn", "BENCH_URL", "--tgt-object", "public.users", "--mode", "truncate"]


def _run(command: Command) -> str:
    parts = [str(part) for part in command]
    return subprocess.run(parts, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS).stdout
