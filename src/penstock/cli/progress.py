"""How far a command is: a bar on a terminal, a line every few seconds elsewhere, nothing for machines. All of it on standard error."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, overload

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
class Given:
    """How much of an export has come; None where nobody knows."""

    rows: int | None
    total_rows: int | None
    processed_bytes: int | None


class Reading(Protocol):
    """`fraction` is None where nobody knows how much there is."""

    @property
    def fraction(self) -> float | None: ...

    def facts(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """Of an import, or of a file that is being sent."""

    rows: int | None  # None while a file is being sent
    rejected: int
    done_bytes: int
    total_bytes: int
    rows_per_second: float | None
    seconds_left: float | None

    @property
    def fraction(self) -> float | None:
        if not self.total_bytes and self.rows is None:
            return None
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


@dataclass(frozen=True, slots=True)
class Brought:
    """Of an export."""

    given: Given
    rows_per_second: float | None
    bytes_per_second: float | None

    @property
    def fraction(self) -> float | None:
        rows, total = self.given.rows, self.given.total_rows
        if rows is None or total is None:
            return None
        return min(1.0, rows / total) if total else 0.0

    def facts(self) -> list[str]:
        rows, total, done = self.given.rows, self.given.total_rows, self.given.processed_bytes
        shown = []
        if rows is not None:
            shown.append(f"{count(rows)} rows" if total is None else f"{count(rows)} of {count(total)} rows")
            shown += [] if self.rows_per_second is None else [f"{count(self.rows_per_second)} rows/s"]
        if done is not None:
            shown.append(size(done))
            shown += [] if rows is not None or self.bytes_per_second is None else [f"{size(self.bytes_per_second)}/s"]
        if rows is not None and total is not None and self.rows_per_second:
            shown.append(f"{duration(max(0, total - rows) / self.rows_per_second)} left")
        return shown


class Pace:
    """Turns counts into speeds. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int]] = deque()

    @overload
    def read(self, progress: "Progress | Sent") -> Taken: ...

    @overload
    def read(self, progress: Given) -> Brought: ...

    def read(self, progress: "Progress | Sent | Given") -> Reading:
        if isinstance(progress, Given):
            return Brought(progress, *self._speeds(progress.rows or 0, progress.processed_bytes or 0))
        rows, failed = (None, 0) if isinstance(progress, Sent) else (progress.processed_rows, progress.failed_rows)
        rows_per_second, bytes_per_second = self._speeds(rows or 0, progress.processed_bytes)
        left = (progress.total_bytes - progress.processed_bytes) / bytes_per_second if bytes_per_second and progress.total_bytes else None
        return Taken(rows, failed, progress.processed_bytes, progress.total_bytes, rows_per_second, left)

    def _speeds(self, rows: int, done_bytes: int) -> tuple[float | None, float | None]:
        """Rows and bytes per second."""
        now = self._clock()
        self._seen.append((now, rows, done_bytes))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:  # noqa: PLR2004 - a speed needs two points
            self._seen.popleft()
        then, rows_then, bytes_then = self._seen[0]
        seconds = now - then
        return ((rows - rows_then) / seconds, (done_bytes - bytes_then) / seconds) if seconds > 0 else (None, None)


class View(Protocol):
    """What shows the progress of one file, from `with` to its end. It is called from the thread that does the work."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def __call__(self, progress: "Progress | Sent | Given") -> None: ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __call__(self, progress: "Progress | Sent | Given") -> None:
        """Nobody looks."""


class Lines(Silent):
    """One line every few seconds: for log files and pipes. The summary tells the end."""

    def __init__(self, console: Console, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._name = clean(name)
        self._clock = clock
        self._pace = Pace(clock)
        self._last = clock()

    def __call__(self, progress: "Progress | Sent | Given") -> None:
        reading = self._pace.read(progress)
        if self._clock() - self._last >= LINE_EVERY_SECONDS:
            self._last = self._clock()
            share = [] if reading.fraction is None else [f"{reading.fraction:.0%}"]
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

    def __call__(self, progress: "Progress | Sent | Given") -> None:
        with self._lock:
            self._reading = self._pace.read(progress)

    def render(self) -> RenderableType:
        with self._lock:
            reading = self._reading
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True, overflow="ellipsis")
        head.add_column(ratio=1)
        head.add_column(justify="right", width=4)
        done = reading.fraction if reading else None
        bar = ProgressBar(total=1.0, completed=done or 0.0, pulse=done is None, complete_style="cyan", finished_style="cyan", style="dim")
        head.add_row(safe(self._name, "bold", _NAME_CHARACTERS), bar, Text("" if done is None else f"{done:.0%}", style="cyan"))
        facts = "   ".join(reading.facts()) if reading else "starting"
        return Group(head, Text(f"  {facts}", style="dim", no_wrap=True, overflow="ellipsis"))


def can_draw(console: Console) -> bool:
    """A bar needs a terminal that can move its cursor."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


def view_for(console: Console, name: str, *, quiet: bool) -> View:
    if quiet:
        return Silent()
    return Bar(console, name) if can_draw(console) else Lines(console, name)


def progress_of(job: "Job") -> "Progress":
    """How far an import is that another process carries."""
    from penstock.imports.service import Progress  # noqa: PLC0415 - imports Polars

    return Progress(
        job_id=job.job_id,
        processed_rows=job.processed_rows,
        failed_rows=job.failed_rows,
        processed_bytes=job.processed_bytes,
        total_bytes=job.total_bytes,
    )


def job_progress(job: "Job") -> "Progress | Given":
    """The same of a job of any kind."""
    return progress_of(job) if job.export is None else Given(job.processed_rows, job.total_rows, None)
