"""`penstock jobs`, `job`, `errors` and `cancel`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.failures import LANDED, print_json
from penstock.cli.options import ServerOption
from penstock.cli.session import Session
from penstock.cli.spool import shown
from penstock.errors import InvalidStateError
from penstock.jobs.model import Job, JobId, JobStatus, JobType

if TYPE_CHECKING:  # Rich's progress bars are not needed for --help
    from penstock.cli.service import ImportService

_PAGE = 200
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")]
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning if no other job's is the same.")]


def jobs(  # noqa: PLR0917 - Typer passes them by name
    ctx: typer.Context,
    status: Annotated[JobStatus | None, typer.Option(case_sensitive=False, help="Only these.", show_default=False)] = None,
    resource: Annotated[str | None, typer.Option(help="Only of this resource.", show_default=False)] = None,
    type_: Annotated[JobType | None, typer.Option("--type", case_sensitive=False, help="Only these.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    as_json: AsJson = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session; likewise below
) -> int:
    """List jobs, the newest first."""
    session: Session = ctx.obj
    with session.imports() as imports:
        found = _newest(imports, type_, status, resource, limit)
    if as_json:
        print_json({"items": found})
        return LANDED
    from penstock.cli.summary import print_jobs  # noqa: PLC0415 - Rich's tables are not needed for --help

    if found:
        print_jobs(session.out, found)
    else:
        session.out.print("No jobs." if (status, resource, type_) == (None, None, None) else "No such jobs.")
    return LANDED


def _newest(imports: "ImportService", type_: JobType | None, status: JobStatus | None, resource: str | None, limit: int) -> list[Job]:
    found: list[Job] = []
    cursor: str | None = None
    while len(found) < limit:
        want = min(_PAGE, limit - len(found))
        page, cursor = imports.list(type=type_, status=status.value if status else None, resource=resource, limit=want, cursor=cursor)
        found += page
        if cursor is None:
            break
    return found


def job(
    ctx: typer.Context,
    job_id: JobArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show its progress until it ends; Ctrl-C stops the showing, not the job.")
    ] = False,
    as_json: AsJson = False,
    server: ServerOption = None,  # noqa: ARG001
) -> int:
    """Show one job. With --follow the exit status is that of the import or export."""
    session: Session = ctx.obj
    with session.imports() as imports:
        found = imports.get(JobId(job_id))
        if follow:
            found = _followed(session, imports, found)
    if as_json:
        print_json(found)
    else:
        from penstock.cli.summary import print_job  # noqa: PLC0415 - Rich's tables are not needed for --help

        print_job(session.out, found, session.hints)
    from penstock.cli.carrying import status_of  # noqa: PLC0415 - imports Polars

    return status_of(found) if follow else LANDED


def _followed(session: Session, imports: "ImportService", found: Job) -> Job:
    from penstock.cli.progress import job_progress, view_for  # noqa: PLC0415 - Rich's progress bars are not needed for --help

    with view_for(session.err, shown(found.source_name), quiet=session.as_json) as view:
        for found in imports.follow(found):  # noqa: B020, PLR1704 - the last one seen is what is shown
            if not found.status.finished:
                view(job_progress(found))
    return found


def errors(  # noqa: PLR0917 - Typer passes them by name
    ctx: typer.Context,
    job_id: JobArgument,
    format_: Annotated[
        Literal["ndjson", "csv", "json"] | None, typer.Option("--format", help="By the name of --output, else ndjson.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="In place of standard output.", show_default=False)
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rejected records themselves, to be mended and imported again.", show_default=False),
    ] = None,
    server: ServerOption = None,  # noqa: ARG001
) -> int:
    """Every problem of an import, with row, line, field, value, code and reason."""
    from penstock.cli.reports import check_target, format_of, save, write_errors  # noqa: PLC0415 - not needed for --help
    from penstock.formats.reporting import ReportFormat  # noqa: PLC0415 - imports Polars

    session: Session = ctx.obj
    for option, path in (("--output", output), ("--rejected", rejected)):
        if path:
            check_target(option, path)
    form = ReportFormat(format_) if format_ else format_of(output) if output else ReportFormat.NDJSON
    with session.imports() as imports:
        found = imports.get(JobId(job_id))
        if found.type is JobType.EXPORT:
            hint = session.hints.command(f"job {found.job_id}")
            raise InvalidStateError(
                f"job {found.job_id} is an export: it has no rejected records. What became of it: {hint}",
                type=found.type.value,
            )
        if rejected:
            written = save(rejected, lambda out: imports.write_rejected(found.job_id, out))
            session.err.print(f"{written:,} rejected records written to {rejected}", soft_wrap=True)
        if output:
            written = save(output, lambda out: write_errors(imports.errors(found.job_id), form, out))
            session.err.print(f"{written:,} problems written to {output}", soft_wrap=True)
        elif not rejected:
            write_errors(imports.errors(found.job_id), form, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    return LANDED


def cancel(
    ctx: typer.Context,
    job_id: JobArgument,
    as_json: AsJson = False,
    server: ServerOption = None,  # noqa: ARG001
) -> int:
    """Stop a job. Of an import what has landed stays, and `penstock import --resume-job ID` goes on; an export leaves no file."""
    session: Session = ctx.obj
    with session.imports() as imports:
        found = imports.get(JobId(job_id))
        if found.status.finished:
            raise InvalidStateError(f"job {found.job_id} has ended already: {found.status.value.lower()}", status=found.status.value)
        found = imports.cancel(found)
    if as_json:
        print_json(found)
    elif found.status.finished:
        session.out.print(f"Job {found.job_id} is {found.status.value.lower()}.")
    else:
        session.out.print(f"Job {found.job_id} stops{' after the records under way' if found.type is JobType.IMPORT else ''}.")
    return LANDED
