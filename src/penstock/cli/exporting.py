"""`penstock export`."""

import sys
from typing import Annotated, Literal

import typer

from penstock.cli.importing import FormatName
from penstock.cli.interrupts import Interrupts
from penstock.cli.options import ServerOption
from penstock.cli.session import Session
from penstock.errors import InvalidOptionError

CompressionName = Literal["none", "gzip", "zstd"]  # likewise penstock.formats.model.Compression


def export(  # noqa: PLR0917 - Typer reads the options from the parameters, and passes them by name
    ctx: typer.Context,
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="Which records: see `penstock resources`.", show_default=False)],
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Where to: its ending tells the format; absent or - is standard output.", show_default=False),
    ] = None,
    format_: Annotated[
        FormatName | None, typer.Option("--format", help="By the ending of FILE if not given; NDJSON on standard output.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="These fields, in this order; repeat it or use commas.", show_default="all of them"),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME=VALUE",
            help="Only these records: role=admin, 'created_at[gte]=2024-01-31T00:00:00Z'; also ne, gt, lt, lte, in, like, is_null. "
            "Repeated: all must hold.",
            show_default=False,
        ),
    ] = None,
    compression: Annotated[CompressionName | None, typer.Option(help="By FILE's .gz or .zst if not given, else none.")] = None,
    spreadsheet: Annotated[
        bool, typer.Option("--spreadsheet", help="A CSV that is safe to open in a spreadsheet, and imports again the same.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    as_json: Annotated[  # noqa: ARG001 - `main.run` has looked for it already
        bool,
        typer.Option(
            "--json", help="The summary as one JSON document: on standard output, or on standard error where that has the records."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session
) -> int:
    """Export records from one snapshot of the database: what is written is whole, or it is not there.

    The file imports again unchanged. Exit status: 0 all of it is there, 1 failed, 2 usage, 130 interrupted.
    """
    session: Session = ctx.obj
    from penstock.cli.delivering import Delivery  # noqa: PLC0415 - Rich's progress bars are not needed for --help
    from penstock.cli.service import ExportRequest  # noqa: PLC0415
    from penstock.cli.targets import form_of, is_standard_output, target_of  # noqa: PLC0415 - imports Polars
    from penstock.formats.model import Compression, Format  # noqa: PLC0415

    session.data_on_out = is_standard_output(file)
    form, packing = form_of(file, Format(format_) if format_ else None, Compression(compression) if compression else None)
    names = None if fields is None else tuple(name.strip() for given in fields for name in given.split(","))
    request = ExportRequest(resource, form, packing, fields=names, filters=tuple(filters or ()), spreadsheet=spreadsheet)
    if session.server is None:
        from penstock.cli.local import wishes_of_request  # noqa: PLC0415 - imports Polars

        wishes_of_request(session.registry(), request)  # what is wrong is told before a database is started
    target = target_of(file, force=force)
    if session.data_on_out and sys.stdout.isatty() and (form is Format.PARQUET or packing is not Compression.NONE):
        raise InvalidOptionError("a terminal cannot show compressed or Parquet data: name a FILE, or send standard output to one")
    with Interrupts(session) as interrupts, session.exports() as exports:
        delivery = Delivery(session, request, target, exports, interrupts, quiet=quiet)
        return delivery.show(delivery.deliver())
