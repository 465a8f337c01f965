"""Speeds, remaining time, and what is shown of them."""

import io

from rich.console import Console

from penstock.cli.progress import LINE_EVERY_SECONDS, Bar, Given, Lines, Pace, Sent, Silent, view_for
from penstock.cli.terminal import clean, duration, size
from penstock.imports.service import Progress
from penstock.jobs.model import JobId
from tests.cli.fakes import HOSTILE, SHOWN


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progress(rows: int, done: int, total: int = 1000) -> Progress:
    return Progress(job_id=JobId("1"), processed_rows=rows, failed_rows=2, processed_bytes=done, total_bytes=total)


def test_speed_is_that_of_the_last_seconds() -> None:
    """A resumed job that starts at a million rows is not shown as a million rows per second; a slow start is forgotten."""
    clock = Clock()
    pace = Pace(clock)
    first = pace.read(progress(1_000_000, 500))
    assert (first.rows_per_second, first.seconds_left) == (None, None)
    clock.now += 2
    second = pace.read(progress(1_000_200, 600))
    assert (second.rows_per_second, second.seconds_left, second.fraction) == (100, 8, 0.6)
    clock.now += 60
    pace.read(progress(1_000_200, 600))
    clock.now += 10
    later = pace.read(progress(1_010_200, 700))
    assert later.rows_per_second == 1000


def test_an_empty_file_divides_by_nothing() -> None:
    """No bytes at all: no progress, no speed, no failure."""
    clock = Clock()
    pace = Pace(clock)
    pace.read(progress(0, 0, 0))
    clock.now += 1
    reading = pace.read(progress(0, 0, 0))
    assert (reading.fraction, reading.seconds_left) == (0.0, None)


def test_lines_come_every_few_seconds() -> None:
    """However often the service reports."""
    clock, out = Clock(), io.StringIO()
    lines = Lines(Console(file=out, width=160, markup=False, emoji=False, highlight=False), HOSTILE, clock)
    for _ in range(80):
        clock.now += LINE_EVERY_SECONDS / 40  # binary fractions, so that nothing is lost in adding
        lines(progress(10, 500))
    assert out.getvalue().count("\n") == 2
    assert out.getvalue().startswith(f"{SHOWN}: 50%, 10 rows")
    assert "2 rejected" in out.getvalue()


def test_what_is_sent_has_bytes_and_no_rows() -> None:
    """With the share that is done where the size is known; of a pipe nobody knows it."""
    for sent, shown in ((Sent(500, 1000), "users.csv: 50%, 500 B of 1.0 kB sent"), (Sent(500, 0), "users.csv: 500 B sent")):
        clock, out = Clock(), io.StringIO()
        lines = Lines(Console(file=out, width=160), "users.csv", clock)
        clock.now += LINE_EVERY_SECONDS
        lines(sent)
        assert out.getvalue() == shown + "\n"
        bar = Bar(Console(file=out, width=160), "users.csv", clock)
        bar(sent)
        Console(file=out, width=160).print(bar.render())
        assert "rows" not in out.getvalue()


def test_an_export_has_records_or_bytes() -> None:
    """Of how many, and the time that is left, where they were counted; of a server's nobody knows, and bytes have a speed."""
    for given, shown in (
        (Given(500, 1000, 2_000_000), "users.csv: 50%, 500 of 1,000 rows, 100 rows/s, 2.0 MB, 5.0 s left"),
        (Given(500, None, 2_000_000), "users.csv: 500 rows, 100 rows/s, 2.0 MB"),
        (Given(None, None, 2_000_000), "users.csv: 2.0 MB, 400.0 kB/s"),
        (Given(500, 1000, None), "users.csv: 50%, 500 of 1,000 rows, 100 rows/s, 5.0 s left"),
        (Given(0, 0, 10), "users.csv: 0%, 0 of 0 rows, 0 rows/s, 10 B"),
    ):
        clock, out = Clock(), io.StringIO()
        lines = Lines(Console(file=out, width=160), "users.csv", clock)
        lines(Given(*(None if fact is None else 0 for fact in (given.rows, given.total_rows, given.processed_bytes))))
        clock.now += LINE_EVERY_SECONDS
        lines(given)
        assert out.getvalue() == shown + "\n"
        bar = Bar(Console(file=out, width=160), "users.csv", clock)
        bar(given)
        Console(file=out, width=160).print(bar.render())
        assert ("%" in out.getvalue().split("\n", 1)[1]) is (given.total_rows is not None)


def test_the_bar_fits_any_terminal() -> None:
    """Two lines, whatever the width and the name."""
    for width in (20, 80, 200):
        out = io.StringIO()
        console = Console(file=out, width=width, force_terminal=True, markup=False, emoji=False, highlight=False)
        bar = Bar(console, HOSTILE + "x" * 300)
        for step in (None, progress(10, 500), progress(20, 1000)):
            if step:
                bar(step)
            console.print(bar.render())
        assert out.getvalue().count("\n") == 6
        assert "\u202e" not in out.getvalue()


def test_views() -> None:
    """Quiet shows nothing; what is no terminal gets lines even when colours are forced."""
    assert type(view_for(Console(file=io.StringIO()), "x", quiet=True)) is Silent
    assert type(view_for(Console(file=io.StringIO(), force_terminal=True), "x", quiet=False)) is Lines


def test_figures() -> None:
    """Sizes and durations as people read them."""
    assert [size(n) for n in (0, 999, 1000, 123_456_789, 5e15)] == ["0 B", "999 B", "1.0 kB", "123.5 MB", "5000.0 TB"]
    assert [duration(s) for s in (None, 0.04, 59.9, 61, 3599.9, 7260)] == ["-", "0.0 s", "59.9 s", "1:01 min", "1:00 h", "2:01 h"]


def test_clean_leaves_letters_of_all_languages() -> None:
    """Only what could steer is escaped; a limit cuts before escaping, so that no escape is cut in half."""
    assert clean("Łódź 東京 العربية 😀") == "Łódź 東京 العربية 😀"
    assert clean("ab\x1bcd", limit=4) == "ab\\x1b…"
    assert clean("a\u200bb\u2028c\x9b") == r"a\u200bb\u2028c\x9b"
