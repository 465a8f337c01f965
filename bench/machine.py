"""Where and with what was measured: figures of two runs can be compared only if these are alike."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("penstock", "polars", "pyarrow", "pgpq", "psycopg", "granian", "uvloop", "fastapi", "uvicorn")
_TUNING = ("IMPORT_", "BATCH_", "MAX_RECORD", "WORKERS", "QUEUE_SIZE", "PENSTOCK_RESOURCES", "LOG_LEVEL", "POLARS_", "ARROW_")
BUSY_LOAD = 0.3  # processes that want to run, on the average of the last minute, before anything is measured


def machine() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": f"{_cpu()}, {cores} cores", "memory": f"{gib:.1f} GiB", "system": f"{platform.system()} {platform.release()}"}


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}, "commit": _commit()}


def tuning() -> dict[str, str]:
    """Settings of the environment that change what is measured."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_TUNING)}


def load_average() -> float:
    return os.getloadavg()[0]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The working copy's, and whether the code has changed since."""
    here = Path(__file__).parent.parent
    try:
        said = [
            subprocess.run(["git", *words], cwd=here, check=True, capture_output=True, text=True).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", "src"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{said[0]} and changes" if said[1] else said[0]
