r"""Exports over HTTP, each right after `psql \copy` of the same rows to nowhere; and the server's memory while it streams."""

import http.client
import time
from collections.abc import Callable
from statistics import median

from bench import data
from bench.client import BLOCK_BYTES
from bench.loads import PENSTOCK, WrongResultError, limit_seconds
from bench.processes import Command, ProgramFailedError, timed
from bench.report import Sheet
from bench.server import Server
from bench.serving import Site, served

TARGET_PACE = 0.9
_MIB = 2**20
_FIELDS = ("id", "email", "name", "phone_number", "role", "active", "created_at", "updated_at")
_ROWS = f"SELECT {', '.join(_FIELDS)} FROM users"
_COPIES = {
    "csv": rf"\copy ({_ROWS}) to '/dev/null' csv header",
    "csv, ordered": rf"\copy ({_ROWS} ORDER BY id) to '/dev/null' csv header",
    "ndjson": rf"\copy (SELECT row_to_json(u) FROM ({_ROWS}) u) to '/dev/null'",
    "ndjson, ordered": rf"\copy (SELECT row_to_json(u) FROM ({_ROWS} ORDER BY id) u) to '/dev/null'",
}
# Format, title, reference.
_STREAMS = (("csv", "CSV", "csv"), ("ndjson", "NDJSON", "ndjson"), ("json", "JSON", "ndjson"), ("parquet", "Parquet", "csv"))


def measure(server: Server, rows: int, pairs: int, tell: Callable[[str], None]) -> Sheet:
    """Raises WrongResultError, ProgramFailedError."""
    samples: dict[str, list[float]] = {}
    cells: list[tuple[str, ...]] = []
    with served(server, worker=False) as site:
        _fill(site, server, rows)
        _stream(site, "csv")  # what only the first export pays for
        idle = site.memory.now()
        for form, title, reference in _STREAMS:
            found = []
            site.memory.forget_peak()
            for _ in range(pairs):
                copied, ordered = (_copied(site, server, name, rows) for name in (reference, f"{reference}, ordered"))
                found.append((copied, ordered, *_stream(site, form)))
            tell(f"export as {title}")
            samples |= {f"{title}, copy seconds": [run[0] for run in found], f"{title}, ordered copy seconds": [run[1] for run in found]}
            samples[f"{title}, seconds"] = [run[2] for run in found]
            cells.append(_row(title, rows, found, site.memory.peak(), idle))
    return Sheet(
        title=rf"Exports of {rows:,} users over HTTP (target: {TARGET_PACE} x \copy for CSV and NDJSON); the server's memory in MiB",
        header=("", "seconds", "rows/s", r"\copy", r"x \copy", "lowest to highest", "ordered", "x ordered", "MB", "idle", "peak"),
        rows=cells,
        samples=samples,
        remarks=[
            r"Beside NDJSON and JSON stands \copy of row_to_json(...), beside CSV and Parquet that of the rows as CSV; both in no order."
        ],
    )


def _fill(site: Site, server: Server, rows: int) -> None:
    command: Command = [PENSTOCK, "import", "users", data.csv_file(rows), "--quiet"]
    timed(command, env=site.environment, limit_seconds=limit_seconds(rows))
    timed([server.psql, "-X", "-q", "-w", "-c", "VACUUM ANALYZE", site.conninfo], limit_seconds=600)
    server.settle()


def _copied(site: Site, server: Server, form: str, rows: int) -> float:
    # As the session of an export has it, so that times are written alike.
    options = ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", "SET timezone = 'UTC'", "-c", _COPIES[form]]
    return timed([server.psql, *options, site.conninfo], limit_seconds=limit_seconds(rows)).seconds


def _stream(site: Site, form: str) -> tuple[float, int]:
    """Seconds from the connection to the last byte, and how many bytes there were."""
    connection = http.client.HTTPConnection("127.0.0.1", site.client.port, timeout=600, blocksize=BLOCK_BYTES)
    block = bytearray(BLOCK_BYTES)
    size = 0
    began = time.perf_counter()
    try:
        connection.request("GET", f"/v1/exports?resource=users&format={form}")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise WrongResultError(f"An export was answered with {answer.status}: {answer.read()[:500].decode(errors='replace')}")
        while count := answer.readinto(block):
            size += count
    except (OSError, http.client.HTTPException) as error:
        raise ProgramFailedError("an export broke off", repr(error)) from error
    finally:
        connection.close()
    return time.perf_counter() - began, size


def _row(title: str, rows: int, found: list[tuple[float, float, float, int]], peak: int | None, idle: int | None) -> tuple[str, ...]:
    copied, ordered, seconds = (median(run[place] for run in found) for place in range(3))
    paces = [run[0] / run[2] for run in found]
    ordered_pace = median(run[1] / run[2] for run in found)
    between = f"{min(paces):.2f} to {max(paces):.2f}"
    memory = ("-", "-") if peak is None or idle is None else (f"{idle / _MIB:.0f}", f"{peak / _MIB:.0f}")
    compared = (f"{copied:.2f}", f"{median(paces):.2f}", between, f"{ordered:.2f}", f"{ordered_pace:.2f}")
    return (title, f"{seconds:.2f}", f"{rows / seconds:,.0f}", *compared, f"{found[0][3] / 1e6:.0f}", *memory)
