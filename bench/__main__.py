"""`python -m bench`: measure on this machine, show a table, keep it if asked to."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable

from rich.console import Console

from bench import answers, data, events, exports, loads, machine, peers, report, uploads
from bench.loads import Line, Load, WrongResultError
from bench.processes import Finished, ProgramFailedError
from bench.server import Server, running

_MILLION = 1_000_000
_WIDTH = 110  # of the table; a narrower terminal breaks its lines, which says more than columns cut short
_REFERENCE = r"psql \copy, bare table"
_SERVICE = ("served", "answers", "upload", "export", "events")


def main() -> None:
    chosen = _arguments()
    console = Console(highlight=False, width=max(_WIDTH, shutil.get_terminal_size().columns))
    # Unwinds, so that the databases are dropped and the embedded server is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    before = machine.load_average()
    if before > machine.BUSY_LOAD:
        console.print(
            f"Load average {before:.2f}: something else runs. Figures will be too low, ratios unsteady.\n", style="yellow", soft_wrap=True
        )
    try:
        with running(chosen.database) as server:
            whole = Bench(server, chosen, console, before).run()
    except (WrongResultError, ProgramFailedError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    sys.exit(not whole)


class Bench:
    def __init__(self, server: Server, chosen: argparse.Namespace, console: Console, load_before: float) -> None:
        facts = {
            "machine": machine.machine(),
            "versions": machine.versions(),
            "server": server.facts(),
            "environment": machine.tuning(),
            "peers": {},
        }
        self._server, self._chosen, self._console = server, chosen, console
        self._results = report.Results(chosen.rows, chosen.pairs, load_before, facts)
        self._reference = Line("copy", _REFERENCE, chosen.rows)
        self._step = 0

    def run(self) -> bool:
        """Whether all of Penstock's loads did what they should. Raises ProgramFailedError where there is no reference."""
        wanted: list[str] = self._chosen.only
        measured = [load for load in loads.LOADS if load.name in wanted]
        self._read_through(measured, wanted)
        lines = {load.name: Line(load.name, load.title, self._rows(load.share)) for load in measured}
        if "served" in wanted:
            lines["served"] = Line("served", "Penstock serve, CSV, sent and imported", self._chosen.rows)
        for _ in range(self._chosen.pairs):
            for load in measured:
                self._import(load, lines[load.name])
            if "served" in wanted:
                self._measure(lines["served"], lambda: uploads.through(self._server, self._chosen.rows))
        whole = self._service(wanted)
        self._results.lines = [*lines.values(), *(self._peer(p) for p in peers.PEERS if p.name in wanted)]
        if self._results.lines:
            self._results.lines.insert(0, self._reference)
        self._results.remarks += report.compared(lines)
        if self._chosen.rows < _MILLION:
            self._results.remarks.append("With so few records much of the time is the start of programs.")
        if not self._server.checkpoints:
            self._results.remarks.append("The role may not ask for checkpoints: runs may have paid for those of the runs before them.")
        self._console.print()
        report.show(self._console, self._results)
        if self._chosen.save:
            self._console.print(f"\nSaved as {report.save(self._results)}", soft_wrap=True)
        return whole and not any(line.note for line in lines.values())

    def _read_through(self, measured: list[Load], wanted: list[str]) -> None:
        """So that the input is in the page cache; events have none."""
        for load in measured:
            data.read_through(load.file(self._rows(load.share)))
        if set(wanted) - {"events"}:
            data.read_through(data.csv_file(self._chosen.rows))

    def _service(self, wanted: list[str]) -> bool:
        """The tables of the service; whether both could be made."""
        sheets: dict[str, Callable[[], report.Sheet]] = {
            "answers": lambda: answers.measure(self._server, self._chosen.rows, self._tell),
            "upload": lambda: uploads.measure(self._server, self._chosen.pairs, self._tell),
            "export": lambda: exports.measure(self._server, self._chosen.rows, self._chosen.pairs, self._tell),
            "events": lambda: events.measure(self._server, self._chosen.pairs, self._chosen.seconds, self._tell),
        }
        whole = True
        for name, measure in sheets.items():
            if name not in wanted:
                continue
            try:
                self._results.sheets.append(measure())
            except (ProgramFailedError, WrongResultError) as error:
                self._console.print(f"{name}: {error}", markup=False, style="red")
                self._results.remarks.append(f"{name}: could not be measured.")
                whole = False
        return whole

    def _tell(self, done: str) -> None:
        self._step += 1
        self._console.print(f"{self._step:3}  {done}", style="dim")

    def _import(self, load: Load, line: Line) -> None:
        if load.share == 1:
            self._measure(line, lambda: loads.load(self._server, load, line.rows))
        elif not line.seconds:  # asks for memory, which needs neither a neighbour nor a repetition
            self._measure(line, lambda: loads.load(self._server, load, line.rows), beside=False)

    def _peer(self, peer: peers.Peer) -> Line:
        line = Line(peer.name, peer.title, self._rows(peer.share))
        try:
            self._results.facts["peers"][peer.packages[0] if peer.packages else peer.name] = peers.install(peer)
        except peers.AbsentError as error:
            line.note = "absent, cannot be installed"
            self._console.print(f"{peer.name} is absent: {error}", markup=False, style="yellow")
            return line
        data.read_through(data.csv_file(line.rows))
        self._measure(line, lambda: peers.load(self._server, peer, line.rows))
        return line

    def _measure(self, line: Line, run: Callable[[], Finished], *, beside: bool = True) -> None:
        """One run, right after one of the reference. A load that fails is not tried again; its line says so."""
        if line.note:
            return
        rate = self._copy() if beside else None
        try:
            self._add(line, run, rate)
        except (ProgramFailedError, WrongResultError) as error:
            line.note = error.brief if isinstance(error, ProgramFailedError) else "did not do what it should"
            self._console.print(f"{line.name}: {error}", markup=False, style="red")

    def _copy(self) -> float:
        """Rows/s of the reference, measured anew: it is the neighbour of the run that follows."""
        self._add(self._reference, lambda: loads.copy(self._server, self._chosen.rows), None)
        return self._reference.rows / self._reference.seconds[-1]

    def _add(self, line: Line, run: Callable[[], Finished], reference_rate: float | None) -> None:
        self._step += 1
        line.add(run(), reference_rate)
        pace = f"  {line.paces[-1]:.2f}" if reference_rate else ""
        self._console.print(f"{self._step:3}  {line.name:10} {line.seconds[-1]:7.2f} s{pace}", style="dim")

    def _rows(self, share: float) -> int:
        rows: int = self._chosen.rows
        return max(1, round(rows * share))


def _arguments() -> argparse.Namespace:
    names = [*(load.name for load in loads.LOADS), *_SERVICE]
    peer_names = [peer.name for peer in peers.PEERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", type=_number, default=_MILLION, metavar="N", help="records (default 1,000,000)")
    parser.add_argument("--pairs", type=_number, default=3, metavar="N", help=r"runs of each, every one beside a \copy (default 3)")
    parser.add_argument("--seconds", type=_number, default=8, metavar="N", help="length of a run of events (default 8)")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join([*names, 'service', 'peers', *peer_names])}")
    parser.add_argument("--no-peers", action="store_true", help="Penstock alone")
    parser.add_argument(
        "--database",
        default=os.environ.get("BENCH_DATABASE_URL"),
        metavar="URL",
        help="a server to use, whose role may make databases (default: BENCH_DATABASE_URL, else an embedded one)",
    )
    parser.add_argument("--save", action="store_true", help="keep the results in bench/results")
    chosen = parser.parse_args()
    # The tenth is there for its memory, which is flat or not from some size on only.
    everything = [*(name for name in names if name != "tenth" or chosen.rows > _MILLION), "peers"]
    asked = chosen.only.split(",") if chosen.only else everything
    if unknown := set(asked) - {*names, "service", "peers", *peer_names}:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    asked = [*asked, *(_SERVICE if "service" in asked else ())]
    chosen.only = [*asked, *(peer_names if "peers" in asked else ())] if not chosen.no_peers else [n for n in asked if n in names]
    return chosen


def _number(text: str) -> int:
    number = int(text.replace("_", "").replace(",", ""))
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    main()
