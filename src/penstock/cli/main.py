"""The command line. `main` is what `penstock` runs; `run` is the same without ending the process."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated

import typer

from penstock.cli import dead_letters, demo, doctor, exporting, importing, jobs, maintenance, resources, serve, worker
from penstock.cli.failures import failed, print_json
from penstock.cli.options import VARIABLE, ServerOption, server_of
from penstock.cli.session import Session
from penstock.cli.terminal import clean, prepare_streams

_LEVELS = ("debug", "info", "warning", "error")

# Plain help: it is shown in 0.19 s, with Rich's in 0.30 s, and it can be searched and piped.
app = typer.Typer(
    name="penstock",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("import")(importing.import_)
app.command()(exporting.export)
app.command()(serve.serve)
app.command()(worker.worker)
app.command()(jobs.jobs)
app.command()(jobs.job)
app.command()(jobs.errors)
app.command()(jobs.cancel)
app.command()(dead_letters.dead_letters)
app.command()(dead_letters.replay)
app.command()(dead_letters.discard)
app.command()(resources.resources)
app.command()(maintenance.migrate)
app.command()(doctor.doctor)
app.command()(maintenance.sample)
app.command()(demo.demo)


@app.command()
def version(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session
) -> int:
    """Show the version, and the server's."""
    session: Session = ctx.obj
    shown = {"penstock": doctor.installed("penstock")}
    if session.server:
        with session.connected() as asked:
            shown["server"] = asked.health().version
    if as_json:
        print_json(shown)
    else:
        there = f", server {clean(shown['server'])} at {clean(session.server)}" if session.server else ""
        session.out.print(f"penstock {shown['penstock']}{there}", soft_wrap=True)
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {doctor.installed('penstock')}")
        raise typer.Exit


def _level(given: str | None) -> str | None:
    if given is not None and given.lower() not in _LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(_LEVELS)}")
    return given


@app.callback()
def penstock(
    ctx: typer.Context,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", callback=_level, help="debug, info, warning or error, on standard error.")
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help=f"Ask the Penstock server there; {VARIABLE} is used otherwise.")
    ] = None,
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Move records in bulk into and out of PostgreSQL, exactly: every good one lands once, every bad one comes back with its reason."""
    session: Session = ctx.obj
    session.log_level = log_level
    session.server = server_of(server, ctx.invoked_subcommand)


def run(arguments: Sequence[str], session: Session | None = None) -> int:
    """Run one command and give its exit status; nothing is raised. `session` is where a test puts another application."""
    session = session or Session()
    session.as_json = "--json" in arguments  # looked at before they are parsed: that they cannot be parsed is told as JSON too
    try:
        with _signals_noted(session):
            status = app(args=list(arguments), prog_name="penstock", obj=session, standalone_mode=False)
        sys.stdout.flush()
        if session.interrupted:
            raise KeyboardInterrupt  # noqa: TRY301 - told by `failed` like the others
    except SystemExit as ended:  # Rich, when the reader of its output has gone away
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the last line: whatever it is becomes a message and a status
        return failed(session, error)
    return status if isinstance(status, int) else 0


@contextmanager
def _signals_noted(session: Session) -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that an embedded server is stopped and half a report removed."""

    def received(_number: int, _frame: FrameType | None) -> None:
        session.interrupted = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, received) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    prepare_streams()
    status = run(sys.argv[1:])
    logging.shutdown()
    with suppress(OSError):  # the reader has gone away
        sys.stdout.flush()
        sys.stderr.flush()
    # `run` has closed all that needs closing. Taking interpreter and libraries apart, object by object, takes 0.13 s.
    os._exit(status)
