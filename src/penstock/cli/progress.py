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

if TYPE_CHECKING:  # it imports Polars
    from penstock.imports.service import Progress

LINE_EVERY_SECONDS = 5.0
_WINDOW_SECONDS = 10.0  # speed is that of the last ten seconds: a resumed job starts far along, and a slow start must not tell for ever
_NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Reading:
    rows: int
    rejected: int
    done_bytes: int
    total_bytes: int
    rows_per_second: float | None
    seconds_left: float | None

    @property
    def fraction(self) -> float:
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 0.0

    def facts(self) -> list[str]:
        shown = [f"{count(self.rows)} rows"]
        if self.rows_per_second is not None:
            shown.append(f"{count(self.rows_per_second)} rows/s")
        shown.append(f"{count(self.rejected)} rejected")
        shown.append(f"{size(self.done_bytes)} of {size(self.total_bytes)}")
        if self.seconds_left is not None:
            shown.append(f"{duration(self.seconds_left)} left")
        return shown


class Pace:
    """Turns counts into speeds. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int]] = deque()

    def read(self, progress: "Progress") -> Reading:
        now = self._clock()
        self._seen.append((now, progress.processed_rows, progress.processed_bytes))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:  # noqa: PLR2004 - a speed needs two points
            self._seen.popleft()
        then, rows, done = self._seen[0]
        seconds = now - then
        rows_per_second = (progress.processed_rows - rows) / seconds if seconds > 0 else None
        bytes_per_second = (progress.processed_bytes - done) / seconds if seconds > 0 else 0.0
        left = (progress.total_bytes - progress.processed_bytes) / bytes_per_second if bytes_per_second > 0 else None
        return Reading(progress.processed_rows, progress.failed_rows, progress.processed_bytes, progress.total_bytes, rows_per_second, left)


class View(Protocol):
    """What shows the progress of one file, from `with` to its end. It is called from the import's thread."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def __call__(self, progress: "Progress") -> None: ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __call__(self, progress: "Progress") -> None:
        """Nobody looks."""


class Lines(Silent):
    """One line every few seconds: for log files and pipes. The summary tells the end."""

    def __init__(self, console: Console, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._name = clean(name)
        self._clock = clock
        self._pace = Pace(clock)
        self._last = clock()

    def __call__(self, progress: "Progress") -> None:
        reading = self._pace.read(progress)
        if self._clock() - self._last >= LINE_EVERY_SECONDS:
            self._last = self._clock()
            self._console.print(f"{self._name}: {reading.fraction:.0%}, {', '.join(reading.facts())}", soft_wrap=True)


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

    def __call__(self, progress: "Progress") -> None:
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
        bar = ProgressBar(total=1.0, completed=done, pulse=reading is None, complete_style="cyan", finished_style="cyan", style="dim")
        head.add_row(safe(self._name, "bold", _NAME_CHARACTERS), bar, Text(f"{done:.0%}" if reading else "", style="cyan"))
        facts = "   ".join(reading.facts()) if reading else "starting"
        return Group(head, Text(f"  {facts}", style="dim", no_wrap=True, overflow="ellipsis"))


def view_for(console: Console, name: str, *, quiet: bool) -> View:
    """A bar needs a terminal that can move its cursor."""
    if quiet:
        return Silent()
    can_draw = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
    return Bar(console, name) if can_draw else Lines(console, name)
