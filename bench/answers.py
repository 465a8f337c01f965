"""How long a client waits for the answer to a request: an import's start, in the three ways to send a file, and a look at a job."""

import time
from collections.abc import Callable, Iterator
from statistics import median, quantiles

from bench import data
from bench.client import Answer, Body, Client, as_json, form, raw
from bench.loads import WrongResultError, limit_seconds
from bench.report import Sheet
from bench.server import Server
from bench.serving import Site, served, working

ROUNDS = 30
_WARM_UP_ROUNDS = 3
_PAUSE_SECONDS = 0.05
_SMALL_SECONDS = 60.0
_PATH = "/v1/imports"
_RAW_PATH = f"{_PATH}?resource=users"
POSTS = ("form", "raw", "upload_id")
KINDS = (*POSTS, "get")
_TITLES = {
    "form": "POST /v1/imports, form",
    "raw": "POST /v1/imports, raw body",
    "upload_id": "POST /v1/imports, upload_id",
    "get": "GET /v1/imports/{id}",
}
TARGETS = {"form": 20, "raw": 20, "upload_id": 20, "get": 5}  # ms, for the median at an idle worker
_SITUATIONS = ("idle", "importing", "apart: idle", "apart: importing")
Times = dict[str, list[float]]  # ms, by kind


def measure(server: Server, rows: int, tell: Callable[[str], None]) -> Sheet:
    """With `rows` records in the large import. Raises WrongResultError, ProgramFailedError."""
    found: list[Times] = []
    files = map(data.small_csv, range(1, 1_000_000))
    with served(server, worker=True) as site:
        found.append(_idle(site, files, ended=True))
        found.append(_importing(site, files, rows))
    tell("answers, worker in the server")
    with served(server, worker=False) as site:
        found.append(_idle(site, files, ended=False))
        with working(site):
            found.append(_importing(site, files, rows))
    tell("answers, worker beside the server")
    samples = {f"{kind}, {where}": times[kind] for where, times in zip(_SITUATIONS, found, strict=True) for kind in KINDS}
    return Sheet(
        title="Answers, median / 90th percentile in ms",
        header=("", "target", *_SITUATIONS),
        rows=[(_TITLES[kind], str(TARGETS[kind]), *(_cell(times[kind]) for times in found)) for kind in KINDS],
        samples=samples,
        remarks=[f"Answers: {ROUNDS} of each POST, thrice as many GETs; fewer where the large import was over before: {_counts(found)}."],
    )


def _idle(site: Site, files: Iterator[bytes], *, ended: bool) -> Times:
    """One request after the other. `ended`: each only when the job before is over, so that the worker has nothing to do."""
    times: Times = {kind: [] for kind in KINDS}
    for number in range(_WARM_UP_ROUNDS + ROUNDS):
        for kind in POSTS:
            answer = _post(site.client, kind, next(files))
            job_id: str = answer.content["job_id"]
            seen = site.client.get(f"{_PATH}/{job_id}")
            if ended:
                _completed(site.client, job_id, _SMALL_SECONDS)
                seen = site.client.get(f"{_PATH}/{job_id}")
            if number >= _WARM_UP_ROUNDS:
                times[kind].append(answer.seconds * 1000)
                times["get"].append(seen.seconds * 1000)
            time.sleep(_PAUSE_SECONDS)
    return times


def _importing(site: Site, files: Iterator[bytes], rows: int) -> Times:
    """The same while one large import runs. The small ones run beside it, whenever the worker comes to them."""
    times: Times = {kind: [] for kind in KINDS}
    _completed(site.client, _post(site.client, "raw", next(files)).content["job_id"], limit_seconds(rows))  # the queue is empty, nearly
    large: str = site.client.post(_RAW_PATH, raw(data.csv_file(rows))).content["job_id"]
    deadline = time.monotonic() + limit_seconds(rows)
    status, kinds = "PENDING", 0
    while status in ("PENDING", "PROCESSING") and len(times[POSTS[-1]]) < ROUNDS and time.monotonic() < deadline:
        kind = POSTS[kinds % len(POSTS)]
        running = status == "PROCESSING"
        answer = _post(site.client, kind, next(files)) if running else None
        seen = site.client.get(f"{_PATH}/{large}")
        status = seen.content["status"]
        if answer is not None and status == "PROCESSING":
            times[kind].append(answer.seconds * 1000)
            times["get"].append(seen.seconds * 1000)
            kinds += 1
        time.sleep(_PAUSE_SECONDS)
    _completed(site.client, large, limit_seconds(rows))
    return times


def _post(client: Client, kind: str, file: bytes) -> Answer:
    """Start an import; what comes before it (the upload that it names) is not timed."""
    if kind == "form":
        return client.post(_PATH, form(file, resource="users"))
    if kind == "raw":
        return client.post(_RAW_PATH, raw(file))
    upload = client.post("/v1/uploads", as_json(filename="users.csv", resource="users")).content
    client.put(upload["url"], file, upload["headers"])
    body: Body = as_json(upload_id=upload["upload_id"])
    return client.post(_PATH, body)


def _completed(client: Client, job_id: str, seconds: float) -> None:
    job = client.ended(job_id, seconds)
    if job["status"] != "COMPLETED" or job["failed_rows"]:
        raise WrongResultError(f"An import ended {job['status']} with {job['failed_rows']} failed rows.")


def _cell(times: list[float]) -> str:
    if len(times) < 2:
        return "-"
    return f"{median(times):.1f} / {quantiles(times, n=10, method='inclusive')[-1]:.1f}"


def _counts(found: list[Times]) -> str:
    return ", ".join(f"{where} {min(len(times[kind]) for kind in POSTS)}" for where, times in zip(_SITUATIONS, found, strict=True))
