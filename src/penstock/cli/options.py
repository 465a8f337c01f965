"""`--server`: which commands can ask a server, and where it comes from."""

import os
from typing import Annotated

import typer

VARIABLE = "PENSTOCK_SERVER"
# The others work on this machine's database or files.
ASKING = frozenset(
    {"import", "export", "jobs", "job", "errors", "cancel", "dead-letters", "replay", "discard", "resources", "doctor", "version"}
)


def _take(ctx: typer.Context, given: str | None) -> str | None:
    if given is not None:
        ctx.obj.server = given or None
    return given


ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", callback=_take, help=f"Ask the Penstock server there; {VARIABLE} is used otherwise.", show_default=False
    ),
]


def server_of(given: str | None, command: str | None) -> str | None:
    """The server for the command, from the option before it, else from the environment. An empty one means: none.

    Raises InvalidOptionError for a command that cannot ask a server; the environment's is no concern of those.
    """
    if command in ASKING:
        return (os.environ.get(VARIABLE) if given is None else given) or None
    if given:
        raise refused(command)
    return None


def refused(command: str | None) -> Exception:
    from penstock.errors import InvalidOptionError  # noqa: PLC0415 - not needed for --help

    return InvalidOptionError(f"--server: `penstock {command}` works on this machine only; with a server work: {', '.join(sorted(ASKING))}")
