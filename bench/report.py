"""The results as a table for the terminal, and as Markdown and JSON to be kept."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.loads import Line

RESULTS = Path(__file__).parent / "results"
_HEADER = ("", "seconds", "rows/s", r"x \copy", "lowest to highest", "peak memory")
_ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of its own below the loads'; `samples` are all single measurements, by their names."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    samples: dict[str, list[float]]
    remarks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    rows: int
    pairs: int
    load_average: float
    facts: dict[str, dict[str, str]]
    lines: list[Line] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def show(console: Console, results: Results) -> None:
    show_facts(console, results)
    for title, header, rows in _tables(results):
        if title:
            console.print(Text(f"\n{title}"))
        console.print(_table(header, rows))
    for remark in _remarks(results):
        console.print(Text(f"\n{remark}"), end="")
    console.print()


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for number, title in enumerate(header):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _tables(results: Results) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    if results.lines:
        yield "", _HEADER, [_cells(line) for line in results.lines]
    for sheet in results.sheets:
        yield sheet.title, sheet.header, sheet.rows


def show_facts(console: Console, results: Results) -> None:
    for title, facts in _facts(results):
        console.print(Text(f"{title}: ", style="dim") + Text(facts), soft_wrap=True)
    console.print()


def save(results: Results) -> Path:
    """Markdown, and JSON with every single run, under the first free number of the day; the path of the Markdown."""
    RESULTS.mkdir(exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    path = next(path for n in count(1) if not (path := RESULTS / f"{day}-{n}.md").exists())
    path.write_text("\n".join(_markdown(results, path.stem)) + "\n", encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
    return path


def _cells(line: Line) -> tuple[str, ...]:
    if line.note:  # also after runs that went well: what fails now and then has no speed
        return (line.title, *[_ABSENT] * (len(_HEADER) - 1))
    seconds = median(line.seconds)
    paces = sorted(line.paces)
    return (
        line.title,
        f"{seconds:.2f}",
        f"{line.rows / seconds:,.0f}",
        f"{median(paces):.2f}" if paces else _ABSENT,
        f"{paces[0]:.2f} to {paces[-1]:.2f}" if len(paces) > 1 else _ABSENT,
        f"{max(line.peaks) / 2**20:.0f} MiB" if line.peaks else _ABSENT,
    )


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    for title, facts in results.facts.items():
        yield title, ", ".join(f"{name} {value}" for name, value in facts.items()) or "none"
    yield (
        "measured",
        f"{results.rows:,} records, pairs of runs {results.pairs}, each peer once; load average before {results.load_average:.2f}",
    )


def _markdown(results: Results, title: str) -> Iterable[str]:
    yield f"# {title}"
    yield ""
    yield from (f"- {name}: {facts}" for name, facts in _facts(results))
    yield ""
    for heading, header, rows in _tables(results):
        if heading:
            yield from (f"## {heading}", "")
        yield from _rows(header)
        yield "| --- |" + " ---: |" * (len(header) - 1)
        for row in rows:
            yield from _rows(row)
        yield ""
    yield from (f"- {remark}" for remark in _remarks(results))


def _remarks(results: Results) -> list[str]:
    return [f"{line.title}: {line.note}." for line in results.lines if line.note] + [
        *(remark for sheet in results.sheets for remark in sheet.remarks),
        *results.remarks,
    ]


def _rows(cells: Iterable[str]) -> Iterator[str]:
    yield "| " + " | ".join(cells) + " |"


def compared(lines: Mapping[str, Line]) -> Iterator[str]:
    """What several lines say together, by their names."""
    if (clean := lines.get("csv")) and (bad := lines.get("bad")) and len(clean.paces) == len(bad.paces) > 0:
        pairs = zip(bad.paces, clean.paces, strict=True)
        yield f"2 % bad records: {median(b / c for b, c in pairs):.2f} times the speed of the clean file, pair by pair."
    if (whole := lines.get("csv")) and (tenth := lines.get("tenth")) and whole.peaks and tenth.peaks:
        growth = max(whole.peaks) / max(tenth.peaks)
        yield f"Peak memory with {whole.rows:,} records is {growth:.2f} times that with {tenth.rows:,}."
