"""`penstock migrate` and `penstock sample`."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.failures import LANDED, print_json
from penstock.cli.session import Session
from penstock.cli.terminal import clean


def migrate(
    ctx: typer.Context,
    adopt_storage: Annotated[
        bool, typer.Option("--adopt-storage", help="The files have moved: the storage of these settings is the database's from now on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")] = False,
) -> int:
    """Bring the database up to date. The other commands do it by themselves; this one is for deployments."""
    session: Session = ctx.obj
    from penstock.bootstrap import Application, prepare  # noqa: PLC0415 - Polars and psycopg, which --help must not wait for
    from penstock.database.connect import database  # noqa: PLC0415

    registry = session.registry()
    with database(session.settings) as db:
        applied = prepare(db, registry)
        where = db.where
        if adopt_storage:
            adopted = Application(session.settings, registry, db).adopt_storage()
            if not session.as_json:
                session.out.print(f"files are kept in {clean(adopted)}", soft_wrap=True)
    if as_json:
        print_json({"applied": applied})
    else:
        for name in applied:
            session.out.print(f"applied {name}")
        session.out.print(f"The database is up to date ({clean(where)}).", soft_wrap=True)
    return LANDED


def sample(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it is not there; files of the same names are replaced.")],
    scale: Annotated[float, typer.Option(min=0.004, max=10_000, help="How many times the usual size.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")] = False,
) -> int:
    """Write sample files: users, addresses, articles and comments, with one bad record in twenty."""
    session: Session = ctx.obj
    from penstock.cli.summary import plain_table  # noqa: PLC0415 - not needed for --help
    from penstock.samples import write_samples  # noqa: PLC0415

    manifest = write_samples(folder, scale)
    if as_json:
        print_json(manifest)
        return LANDED
    table = plain_table(session.out, "File", "Resource", "Records", "Good", "Bad", right=("Records", "Good", "Bad"))
    for file in manifest.files:
        table.add_row(clean(file.path), file.resource, f"{file.records:,}", f"{file.imported + file.updated:,}", f"{file.rejected:,}")
    session.out.print(table)
    session.out.print("\nImport them in this order, such as:")
    for file in manifest.files:
        session.out.print(f"  penstock import {file.resource} {clean(file.path)}", soft_wrap=True)
    return LANDED
