"""How far an import is: a bar on a terminal, a line every few seconds elsewhere, nothing for machines. All of it on standard error."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from penstock.cli.terminal import clean, count, duration, safe, size

if TYPE_CHECKING:  # Polars and msgspec
    from penstock.imports.service import Progress
    from penstock.jobs.model import Job

LINE_EVERY_SECONDS = 5.0
_WINDOW_SECONDS = 10.0  # speed is that of the last ten seconds: a resumed job starts far along, and a slow start must not tell for ever
_NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Sent:
    """How much of a file has been sent to a server; `total_bytes` is 0 where nobody knows."""

    processed_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    rows: int | None  # None while a file is being sent
    rejected: int
    done_bytes: int
    total_bytes: int
    rows_per_second: float | None
    seconds_left: float | None

    @property
    def fraction(self) -> float:
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 0.0

    def facts(self) -> list[str]:
        of = f" of {size(self.total_bytes)}" if self.total_bytes or self.rows is not None else ""
        shown = [f"{size(self.done_bytes)}{of}"]
        if self.rows is None:
            shown[0] += " sent"
        else:
            speed = [] if self.rows_per_second is None else [f"{count(self.rows_per_second)} rows/s"]
            shown = [f"{count(self.rows)} rows", *speed, f"{count(self.rejected)} rejected", *shown]
        if self.seconds_left is not None:
            shown.append(f"{duration(self.seconds_left)} left")
        return shown


class Pace:
    """Turns counts into speeds. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int]] = deque()

    def read(self, progress: "Progress | Sent") -> Reading:
        now = self._clock()
        processed, failed = (None, 0) if isinstance(progress, Sent) else (progress.processed_rows, progress.failed_rows)
        self._seen.append((now, processed or 0, progress.processed_bytes))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:  # noqa: PLR2004 - a speed needs two points
            self._seen.popleft()
        then, rows, done = self._seen[0]
        seconds = now - then
        rows_per_second = ((processed or 0) - rows) / seconds if seconds > 0 else None
        bytes_per_second = (progress.processed_bytes - done) / seconds if seconds > 0 else 0.0
        known = bytes_per_second > 0 and progress.total_bytes > 0
        left = (progress.total_bytes - progress.processed_bytes) / bytes_per_second if known else None
        return Reading(processed, failed, progress.processed_bytes, progress.total_bytes, rows_per_second, left)


class View(Protocol):
    """What shows the progress of one file, from `with` to its end. It is called from the import's thread."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def __call__(self, progress: "Progress | Sent") -> None: ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __call__(self, progress: "Progress | Sent") -> None:
        """Nobody looks."""


class Lines(Silent):
    """One line every few seconds: for log files and pipes. The summary tells the end."""

    def __init__(self, console: Console, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._name = clean(name)
        self._clock = clock
        self._pace = Pace(clock)
        self._last = clock()

    def __call__(self, progress: "Progress | Sent") -> None:
        reading = self._pace.read(progress)
        if self._clock() - self._last >= LINE_EVERY_SECONDS:
            self._last = self._clock()
            share = [f"{reading.fraction:.0%}"] if reading.total_bytes or reading.rows is not None else []
            self._console.print(f"{self._name}: {', '.join([*share, *reading.facts()])}", soft_wrap=True)


class Bar(Silent):
    """Two lines that stay in place and vanish at the end, when the summary takes over."""

    def __init__(self, console: Console, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._pace = Pace(clock)
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, progress: "Progress | Sent") -> None:
        with self._lock:
            self._reading = self._pace.read(progress)

    def render(self) -> RenderableType:
        with self._lock:
            reading = self._reading
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True, overflow="ellipsis")
        head.add_column(ratio=1)
        head.add_column(justify="right", width=4)
        done = reading.fraction if reading else 0.0
        unknown = reading is None or not (reading.total_bytes or reading.rows is not None)
        bar = ProgressBar(total=1.0, completed=done, pulse=unknown, complete_style="cyan", finished_style="cyan", style="dim")
        head.add_row(safe(self._name, "bold", _NAME_CHARACTERS), bar, Text("" if unknown else f"{done:.0%}", style="cyan"))
        facts = "   ".join(reading.facts()) if reading else "starting"
        return Group(head, Text(f"  {facts}", style="dim", no_wrap=True, overflow="ellipsis"))


def view_for(console: Console, name: str, *, quiet: bool) -> View:
    """A bar needs a terminal that can move its cursor."""
    if quiet:
        return Silent()
    can_draw = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
    return Bar(console, name) if can_draw else Lines(console, name)


def progress_of(job: "Job") -> "Progress":
    """How far a job is that another process carries."""
    from penstock.imports.service import Progress  # noqa: PLC0415 - imports Polars

    return Progress(
        job_id=job.job_id,
        processed_rows=job.processed_rows,
        failed_rows=job.failed_rows,
        processed_bytes=job.processed_bytes,
        total_bytes=job.total_bytes,
    )
