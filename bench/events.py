"""Product events over HTTP, each run right after one of a bare handler that keeps them in memory; and the time until all are applied."""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from bench.client import Client
from bench.data import FOLDER
from bench.loads import WrongResultError
from bench.processes import ProgramFailedError, timed
from bench.report import Sheet
from bench.server import Server
from bench.serving import Site, answering, free_port, served, started

CONNECTIONS, BATCH_CONNECTIONS, BATCH = 64, 4, 1000
TARGET_PACE, TARGET_P99_MS, TARGET_BATCHED = 1.5, 60, 50_000
_WARM_SECONDS = 1
_DRAIN_SECONDS = 300.0
_POLL_SECONDS = 0.02
_SCRIPT = Path(__file__).parent / "lua" / "events.lua"
_SETTLED = "SELECT sum(applied + superseded + duplicates + dead) FROM penstock.event_counters"
_ABSENT = "-"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of wrk found. `drained` is how long after it the last of its events was applied."""

    events: int
    seconds: float
    p50_ms: float
    p99_ms: float
    drained: float | None = None

    @property
    def rate(self) -> float:
        return self.events / self.seconds


@dataclass(slots=True)
class _Found:
    title: str
    runs: list[Run] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)  # as multiples of the bare handler's run just before


def measure(server: Server, pairs: int, seconds: int, tell: Tell) -> Sheet:
    """Raises WrongResultError, ProgramFailedError."""
    remarks = ["FastAPI validates the same body and puts it into a queue in memory; Penstock answers when the event is durable."]
    bench = _Bench(server, _wrk(), pairs, seconds, tell)
    found = bench.through("PostgreSQL", {})
    if shutil.which("nats-server"):
        with _nats() as url:
            found += bench.through("NATS", {"NATS_URL": url})
    else:
        remarks.append("NATS is not measured: there is no nats-server on the PATH.")
    return Sheet(
        title=(
            f"Product events, {CONNECTIONS} connections for {seconds} s (targets: {TARGET_PACE} x FastAPI, p99 below {TARGET_P99_MS} ms),\n"
            f"and batches of {BATCH:,} on {BATCH_CONNECTIONS} (target: {TARGET_BATCHED:,}/s)"
        ),
        header=("", "events/s", "x FastAPI", "lowest to highest", "p50 ms", "p99 ms", "applied after s"),
        rows=[_row(one) for one in (bench.bare, *found)],
        samples={f"{one.title}, {name}": values for one in (bench.bare, *found) for name, values in _samples(one)},
        remarks=remarks,
    )


class _Bench:
    def __init__(self, server: Server, wrk: str, pairs: int, seconds: int, tell: Tell) -> None:
        self._server, self._wrk, self._tell = server, wrk, tell
        self._pairs, self._seconds = pairs, seconds
        self.bare = _Found("FastAPI, in memory")

    def through(self, log: str, environment: Mapping[str, str]) -> list[_Found]:
        """Pairs with the bare handler, and batches, on one server."""
        single, batched = _Found(f"Penstock, {log}"), _Found(f"Penstock, {log}, batches")
        with served(self._server, worker=True, environment=environment) as site:
            _applied(site, self._wrk, _WARM_SECONDS)
            for _ in range(self._pairs):
                self.bare.runs.append(_in_memory(self._wrk, self._seconds))
                single.runs.append(_applied(site, self._wrk, self._seconds))
                single.paces.append(single.runs[-1].rate / self.bare.runs[-1].rate)
                self._tell(f"events through {log}: {single.runs[-1].rate:,.0f}/s, {single.paces[-1]:.2f} x FastAPI")
                batched.runs.append(_applied(site, self._wrk, self._seconds, batch=BATCH))
                self._tell(f"events in batches through {log}: {batched.runs[-1].rate:,.0f}/s")
        return [single, batched]


def _applied(site: Site, wrk: str, seconds: int, *, batch: int = 1) -> Run:
    """One run, and the wait until what was accepted is applied. Raises WrongResultError where that is not what was sent."""
    before = _settled(site)
    connections = CONNECTIONS if batch == 1 else BATCH_CONNECTIONS
    run = _sent(wrk, site.client.port, seconds, connections, batch)
    ended = time.perf_counter()
    while (done := _settled(site) - before) < run.events:
        if time.perf_counter() - ended > _DRAIN_SECONDS:
            raise WrongResultError(f"Of {run.events:,} accepted events {done:,} are applied after {_DRAIN_SECONDS:.0f} s.")
        time.sleep(_POLL_SECONDS)
    drained = time.perf_counter() - ended
    time.sleep(_WARM_SECONDS)  # what was under way when wrk ended, and was accepted without anybody to be told
    if (extra := _settled(site) - before - run.events) > connections * batch:
        raise WrongResultError(f"{extra:,} more events were applied than the {run.events:,} that were sent.")
    return Run(run.events, run.seconds, run.p50_ms, run.p99_ms, drained)


def _settled(site: Site) -> int:
    with psycopg.connect(site.conninfo) as connection:
        row = connection.execute(_SETTLED).fetchone()
    assert row is not None
    return int(row[0])


def _in_memory(wrk: str, seconds: int) -> Run:
    """The bare handler, in a process of its own for each run: its queue is never emptied."""
    port = free_port()
    FOLDER.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "uvicorn", "bench.queueing:app", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    with tempfile.TemporaryDirectory(prefix="bare-", dir=FOLDER) as name, Client(port) as client:
        log = Path(name) / "uvicorn.log"
        with started(command, log, {}, Path(__file__).parent.parent) as process:
            answering(process, client, log, "/openapi.json")
            _sent(wrk, port, _WARM_SECONDS, CONNECTIONS, 1)
            return _sent(wrk, port, seconds, CONNECTIONS, 1)


def _sent(wrk: str, port: int, seconds: int, connections: int, batch: int) -> Run:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)]
    done = timed([wrk, *options, f"http://127.0.0.1:{port}/", "--", str(batch)], limit_seconds=seconds + 60)
    told = json.loads(done.output.strip().splitlines()[-1])
    if told["refused"] or told["failed"] or not told["requests"]:
        raise WrongResultError(f"Of {told['requests']:,} requests {told['refused']:,} were refused and {told['failed']:,} failed.")
    return Run(told["requests"] * batch, told["seconds"], told["p50_ms"], told["p99_ms"])


def _wrk() -> str:
    if (found := shutil.which("wrk")) is None:
        raise ProgramFailedError(
            "wrk is not on the PATH", "It sends the events: https://github.com/wg/wrk, or the system's package of that name."
        )
    return found


@contextmanager
def _nats() -> Iterator[str]:
    """A server with JetStream and its usual settings, for this run."""
    port = free_port()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nats-", dir=FOLDER) as name:
        folder = Path(name)
        command = ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "-m", str(watch := free_port()), "-sd", str(folder / "store")]
        with started(command, folder / "nats.log", {}, folder) as process, Client(watch) as client:
            answering(process, client, folder / "nats.log", "/healthz")
            yield f"nats://127.0.0.1:{port}"


def _row(found: _Found) -> tuple[str, ...]:
    runs, paces = found.runs, sorted(found.paces)
    drained = [run.drained for run in runs if run.drained is not None]
    return (
        found.title,
        f"{median(run.rate for run in runs):,.0f}",
        f"{median(paces):.2f}" if paces else _ABSENT,
        f"{paces[0]:.2f} to {paces[-1]:.2f}" if len(paces) > 1 else _ABSENT,
        f"{median(run.p50_ms for run in runs):.1f}",
        f"{median(run.p99_ms for run in runs):.1f}",
        f"{median(drained):.2f}" if drained else _ABSENT,
    )


def _samples(found: _Found) -> Iterator[tuple[str, list[float]]]:
    yield "events/s", [run.rate for run in found.runs]
    yield "p99 ms", [run.p99_ms for run in found.runs]
    if found.paces:
        yield "x FastAPI", found.paces
    yield "applied after s", [run.drained for run in found.runs if run.drained is not None]
