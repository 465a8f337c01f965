"""A large file on its way into the service: the server's memory, and its speed beside that of a copy; and a whole import through it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench import data
from bench.client import Body, blocks, form, raw
from bench.loads import check, limit_seconds
from bench.processes import Finished
from bench.report import Sheet
from bench.server import Server, count
from bench.serving import served

BYTES = 1_000_000_000
_MIB = 2**20
TARGET_GROWTH = 60  # MiB
_BODIES: dict[str, tuple[str, Callable[[Path], Body]]] = {
    "form": ("/v1/imports", lambda file: form(file, resource="users")),
    "raw": ("/v1/imports?resource=users", raw),
}


def measure(server: Server, pairs: int, tell: Callable[[str], None]) -> Sheet:
    """Each right after a copy of the same bytes, `pairs` times. Raises WrongResultError, ProgramFailedError."""
    file = data.large_file(BYTES)
    data.read_through(file)
    rows: list[tuple[str, ...]] = []
    samples: dict[str, list[float]] = {}
    for kind in _BODIES:
        found = [_upload(server, kind, file) for _ in range(pairs)]
        tell(f"upload of 1 GB, {kind}")
        samples |= {f"{kind}, {name}": [run[name] for run in found] for name in found[0]}
        rows.append(_row(kind, found))
    return Sheet(
        title=f"Upload of 1 GB, the server's memory in MiB (target for its growth: {TARGET_GROWTH})",
        header=("", "MB/s", "cp + fsync", "x cp", "idle", "peak", "growth"),
        rows=rows,
        samples=samples,
    )


def through(server: Server, rows: int) -> Finished:
    """One import as a client sees it: the file sent, and the job followed until its end. `peak_bytes` is the server's, worker and all."""
    file = data.csv_file(rows)
    with served(server, worker=True) as site:
        server.settle()
        began = time.perf_counter()
        job_id: str = site.client.post("/v1/imports?resource=users", raw(file)).content["job_id"]
        job = site.client.ended(job_id, limit_seconds(rows))
        seconds = time.perf_counter() - began
        check(job, {"status": "COMPLETED", "total_rows": rows, "imported_rows": rows, "failed_rows": 0}, "Penstock serve")
        check({"rows in the table": count(site.conninfo)}, {"rows in the table": rows}, "Penstock serve")
        return Finished(seconds, site.memory.peak(), 0, "")


def _upload(server: Server, kind: str, file: Path) -> dict[str, float]:
    """Sent to a fresh server without a worker: what it holds is the upload's. Seconds, MiB."""
    path, body = _BODIES[kind]
    with served(server, worker=False) as site:
        site.client.post(path, _small(kind))  # modules that the first request of this kind imports are no part of the file's memory
        server.settle()
        copied = _copy(file, site.folder / "copy")
        idle = site.memory.now()
        site.memory.forget_peak()
        answer = site.client.post(path, body(file))
        peak = site.memory.peak()
        found = {"copy seconds": copied, "seconds": answer.seconds}
        return found | ({} if idle is None or peak is None else {"idle": idle / _MIB, "peak": peak / _MIB})


def _small(kind: str) -> Body:
    content = data.small_csv(0)
    return form(content, resource="users") if kind == "form" else raw(content)


def _copy(source: Path, target: Path) -> float:
    """Seconds for what `cp` does with a file that may not share its blocks, and an fsync; the copy is removed."""
    began = time.perf_counter()
    with target.open("wb", buffering=0) as out:
        for block in blocks(source):
            out.write(block)
        os.fsync(out.fileno())
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def _row(kind: str, found: list[dict[str, float]]) -> tuple[str, ...]:
    speed, copied = (median(BYTES / run[name] / 1e6 for run in found) for name in ("seconds", "copy seconds"))
    pace = median(run["copy seconds"] / run["seconds"] for run in found)
    cells = (f"POST /v1/imports, {kind}", f"{speed:.0f}", f"{copied:.0f}", f"{pace:.2f}")
    if "peak" not in found[0]:
        return (*cells, "-", "-", "-")
    idle, peak, growth = (
        max(values) for values in zip(*((run["idle"], run["peak"], run["peak"] - run["idle"]) for run in found), strict=True)
    )
    return (*cells, f"{idle:.0f}", f"{peak:.0f}", f"{growth:.0f}")
