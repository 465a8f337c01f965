"""Jobs and dead letters in words and tables: what landed, what was rejected and why, and what to do next."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.hints import Hints
from penstock.cli.spool import shown
from penstock.cli.terminal import clean, count, duration, moment, plural, safe, size

if TYPE_CHECKING:  # msgspec is not needed for --help
    from penstock.cli.service import Letter
    from penstock.jobs.model import ExportOrder, Job

_MOST_PROBLEMS = 20  # lines of the table; the report has them all
_FIRST_ROWS = 3
_STYLES = {"COMPLETED": "green", "FAILED": "bold red", "CANCELLED": "yellow", "PROCESSING": "cyan", "PENDING": "dim"}


def plain_table(console: Console, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines: calm on a terminal, easy to cut up in a pipe."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim" if console.is_terminal else "")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def status_text(status: str) -> Text:
    return Text(status.lower(), style=_STYLES.get(status, ""))


def title(job: "Job") -> Text:
    name = safe(shown(job.source_name), "bold", 80)
    if job.export is not None:
        return name + safe(f" from {job.resource}: ") + status_text(job.status)
    text = name + safe(f" into {job.resource}: ") + status_text(job.status)
    if job.status == "COMPLETED" and job.failed_rows:
        text += Text(f" with {plural(job.failed_rows, 'rejected record')}", style="yellow")
    if job.dry_run:
        text += Text(" (checked only; nothing was written)", style="cyan")
    return text


def print_summary(console: Console, job: "Job", seconds: float | None = None) -> None:
    """`seconds` is how long this run took; without it the job's own times are shown."""
    console.print(title(job), soft_wrap=True)
    if job.error:
        console.print(safe(f"  {job.error.message} ", "red") + safe(f"({job.error.code})", "dim"), soft_wrap=True)
    if job.processed_rows or job.status == "COMPLETED":
        console.print(_figures(console, job, seconds))
    if job.error_summary:
        console.print()
        print_problems(console, job)
    for warning in job.warnings:
        console.print(Text("  Warning: ", style="yellow") + safe(warning), soft_wrap=True)


def _figures(console: Console, job: "Job", seconds: float | None) -> Table:
    if job.export is not None:
        return _export_figures(console, job)
    columns = ("  Imported", "Updated", "Unchanged", "Rejected", "Time", "Rows/s")
    table = plain_table(console, *columns, right=columns)
    if seconds is None and job.started_at and job.finished_at:
        seconds = (job.finished_at - job.started_at).total_seconds()
    rate = job.rows_per_second
    if rate is None and seconds and job.attempts <= 1:  # of a resumed job only a part of the rows belongs to these seconds
        rate = job.processed_rows / seconds
    numbers = (job.imported_rows, job.updated_rows, job.unchanged_rows)
    rejected = Text(count(job.failed_rows), style="yellow" if job.failed_rows else "")
    table.add_row(*map(count, numbers), rejected, duration(seconds), count(rate))
    return table


def _export_figures(console: Console, job: "Job") -> Table:
    columns = ("  Records", "Size", "Time", "Rows/s")
    table = plain_table(console, *columns, right=columns)
    seconds = (job.finished_at - job.started_at).total_seconds() if job.started_at and job.finished_at else None
    table.add_row(count(job.processed_rows), size(job.file.size) if job.file else "-", duration(seconds), count(job.rows_per_second))
    return table


def print_problems(console: Console, job: "Job") -> None:
    """The problems by code and field, the most frequent first."""
    table = plain_table(console, "  Problem", "Field", "Count", "First rows", "For example", right=("Count",))
    ordered = sorted(job.error_summary, key=lambda s: (-s.count, s.code, s.field or ""))
    for one in ordered[:_MOST_PROBLEMS]:
        rows = ", ".join(str(row) for row in one.first_rows[:_FIRST_ROWS]) + (", …" if one.count > _FIRST_ROWS else "")
        table.add_row(
            safe(f"  {one.code}", limit=60), safe(one.field or "-", limit=40), count(one.count), rows, safe(one.message, limit=100)
        )
    console.print(table)
    if (left := len(ordered) - _MOST_PROBLEMS) > 0:
        console.print(f"  and {plural(left, 'more kind')} of problem")


def next_steps(job: "Job", hints: Hints, *, errors_saved: bool = False, rejected_saved: bool = False) -> Iterator[str]:
    """Commands that make sense now, with the reason in front."""
    if job.failed_rows and not errors_saved:
        yield f"Every problem:      {hints.command(f'errors {job.job_id}')}"
    if job.failed_rows and not rejected_saved:
        yield f"Records to mend:    {hints.command(f'errors {job.job_id} --rejected {rejected_name(job)}')}"
    if job.status == "CANCELLED":
        yield f"To go on:           {hints.go_on(job.job_id)}"
    elif job.status == "FAILED":
        yield f"To try again:       {hints.again(job.job_id)}"


def rejected_name(job: "Job") -> str:
    return clean(f"rejected-{job.resource}.{job.format or 'txt'}")


def print_job(console: Console, job: "Job", hints: Hints) -> None:
    """Everything about one job."""
    print_summary(console, job)
    console.print()
    table = Table.grid(padding=(0, 3, 0, 2))
    for name, value in _details(job) if job.export is None else _export_details(job, job.export, hints):
        table.add_row(Text(name, style="dim"), safe(value))
    console.print(table)


def _details(job: "Job") -> Iterator[tuple[str, Any]]:
    yield "job", job.job_id
    yield (
        "options",
        ", ".join(x for x in (f"mode {job.mode}", job.format and f"format {job.format}", "dry run" if job.dry_run else "") if x),
    )
    if not job.finished_at:
        left = f", {duration(job.eta_seconds)} left" if job.eta_seconds is not None else ""
        yield "progress", f"{job.progress:.0%}, {count(job.processed_rows)} rows{left}"
    yield "bytes", f"{size(job.processed_bytes)} of {size(job.total_bytes)}"
    yield from _course(job)


def _export_details(job: "Job", order: "ExportOrder", hints: Hints) -> Iterator[tuple[str, Any]]:
    yield "job", job.job_id
    packed = "" if order.compression == "none" else order.compression
    yield "options", ", ".join(x for x in ("export", f"format {job.format}", packed, "spreadsheet" if order.spreadsheet else "") if x)
    yield "fields", ", ".join(order.fields)
    if order.filters:
        yield "filters", ", ".join(f"{name}={value}" for name, value in order.filters.items())
    if not job.finished_at:
        left = f", {duration(job.eta_seconds)} left" if job.eta_seconds is not None else ""
        yield "progress", f"{job.progress:.0%}, {count(job.processed_rows)} of {count(job.total_rows)} rows{left}"
    if job.file:
        yield "file", f"{size(job.file.size)}, until {moment(job.file.expires_at)}"
        yield "sha256", job.file.sha256
        yield "download", hints.export_address(job.job_id, "download")
    if job.status in ("FAILED", "CANCELLED"):
        yield "to try again", f"POST {hints.export_address(job.job_id, 'retry')}"
    yield from _course(job)


def _course(job: "Job") -> Iterator[tuple[str, Any]]:
    yield "attempts", job.attempts
    yield "created", moment(job.created_at)
    yield "started", moment(job.started_at)
    yield "finished", moment(job.finished_at)
    if job.request_id:
        yield "request", job.request_id


def print_jobs(console: Console, jobs: list["Job"]) -> None:
    columns = ("Job", "Type", "Resource", "File", "Status", "Rows", "Rejected", "Created")
    table = plain_table(console, *columns, right=("Rows", "Rejected"))
    for job in jobs:
        table.add_row(
            safe(job.job_id),
            job.type.value.lower(),
            safe(job.resource),
            safe(shown(job.source_name), limit=40),
            status_text(job.status),
            count(job.processed_rows),
            count(job.failed_rows) if job.export is None else "-",
            moment(job.created_at),
        )
    console.print(table)


def print_letters(console: Console, letters: Sequence["Letter"]) -> None:
    table = plain_table(console, "Dead letter", "Product", "Died", "Code", "Reason")
    for letter in letters:
        table.add_row(
            safe(letter.dead_letter_id),
            safe(letter.product_id, limit=24) if letter.product_id is not None else Text("(no event)", style="dim"),
            moment(letter.died_at),
            safe(letter.code, limit=40),
            safe(letter.reason, limit=100),
        )
    console.print(table)
