"""`penstock import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.interrupts import Interrupts
from penstock.cli.options import ServerOption
from penstock.cli.session import Session
from penstock.errors import InvalidOptionError, InvalidStateError
from penstock.jobs.model import Empty, ImportOptions, Job, JobId, JobType, Mode, OnError

if TYPE_CHECKING:  # it imports Polars
    from penstock.cli.carrying import ImportRequest

FormatName = Literal["csv", "ndjson", "json", "parquet"]  # penstock.formats.model.Format, whose import costs 0.3 s; a test holds them equal
_ABOUT_OUTPUT = ("as_json", "quiet", "errors_to", "rejected_to", "resume", "resume_job", "resource", "files", "server")


def import_(  # noqa: PLR0917 - Typer reads the options from the parameters, and passes them by name
    ctx: typer.Context,
    resource: Annotated[
        str | None, typer.Argument(metavar="[RESOURCE]", help="What the records are: see `penstock resources`.", show_default=False)
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE...]", help="CSV, NDJSON, JSON or Parquet; - is standard input.", show_default=False),
    ] = None,
    mode: Annotated[Mode, typer.Option(help="Insert and update, insert only, or update only.")] = Mode.UPSERT,
    empty: Annotated[Empty, typer.Option(help="What an empty value does to the stored one.")] = Empty.KEEP,
    on_error: Annotated[OnError, typer.Option(help="At a bad record: report it and continue, or abort.")] = OnError.CONTINUE,
    atomic: Annotated[bool, typer.Option("--atomic", help="All in one transaction: with any bad record, nothing lands.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    max_errors: Annotated[int | None, typer.Option(min=0, help="Fail past this many bad records.", show_default=False)] = None,
    format_: Annotated[FormatName | None, typer.Option("--format", help="Found out by name and content if not given.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="CSV: one character, or tab, comma, semicolon, pipe.", show_default=False)] = None,
    encoding: Annotated[
        str | None, typer.Option(help="If it is not UTF-8 or UTF-16 with a BOM: latin-1, shift_jis, ...", show_default=False)
    ] = None,
    null_values: Annotated[
        list[str] | None,
        typer.Option(
            help="CSV cells that mean no value; repeat it or use commas (`NULL,` is NULL and the empty cell).",
            show_default="the empty cell",
        ),
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Of timestamps without a zone, such as Europe/Lisbon.", show_default=False)] = None,
    datetime_format: Annotated[str | None, typer.Option(help="If not ISO 8601: such as '%d.%m.%Y %H:%M'.", show_default=False)] = None,
    mapping: Annotated[list[str] | None, typer.Option(help="column=field, repeated, or a JSON object.", show_default=False)] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            " /--new",
            help="Go on with unfinished imports: all of them, or those of the files; or start afresh.",
            show_default="go on if the same file is unfinished",
        ),
    ] = None,
    resume_job: Annotated[str | None, typer.Option(metavar="ID", help="Go on with this job.", show_default=False)] = None,
    errors_to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every problem here: .ndjson, .csv or .json.", show_default=False)
    ] = None,
    rejected_to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rejected records here, to be mended and imported again.", show_default=False),
    ] = None,
    as_json: Annotated[  # noqa: ARG001 - `main.run` has looked for it already
        bool, typer.Option("--json", help="One JSON document per file on standard output, and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session
) -> int:
    """Import files: every record checked, every good one lands exactly once, every bad one is reported.

    Several files go one after the other. Exit status: 0 all landed, 1 failed, 2 usage, 3 finished with rejected records, 130 interrupted.
    """  # fmt: skip
    session: Session = ctx.obj
    from penstock.cli.carrying import ImportRequest  # noqa: PLC0415 - imports Polars, which --help must not wait for
    from penstock.formats.model import Format, ReadOptions  # noqa: PLC0415
    from penstock.intake.values import delimiter_of, mapping_of, null_values_of  # noqa: PLC0415

    _check_what(ctx, resource, files, resume=resume, resume_job=resume_job)
    request = ImportRequest(
        resource=resource,
        files=tuple(files or ()),
        read=ReadOptions(
            format=Format(format_) if format_ else None,
            delimiter=delimiter_of(delimiter, "--delimiter"),
            encoding=encoding,
            null_values=null_values_of(null_values),
            mapping=mapping_of(mapping or (), "--mapping"),
        ),
        options=ImportOptions(
            mode=mode,
            empty=empty,
            on_error=on_error,
            atomic=atomic,
            dry_run=dry_run,
            max_errors=max_errors,
            timezone=timezone,
            datetime_format=datetime_format,
        ),
        resume=resume,
        errors_to=errors_to,
        rejected_to=rejected_to,
        quiet=quiet,
    )
    return _run(session, request, resume_job)


def _check_what(ctx: typer.Context, resource: str | None, files: list[str] | None, *, resume: bool | None, resume_job: str | None) -> None:
    """RESOURCE and FILE, or a job to go on with; a job keeps the options that it was started with."""
    if resume_job is not None and (resource or files or resume is False):
        raise InvalidOptionError("--resume-job stands alone: the job knows its resource and its file")
    if not files and not resume and resume_job is None:
        raise InvalidOptionError("name a RESOURCE and at least one FILE, as in: penstock import users users.csv")
    if files or (resume is False):
        return
    given = [name for name in ctx.params if name not in _ABOUT_OUTPUT and _was_given(ctx, name)]
    if given:
        options = ", ".join(f"--{name.rstrip('_').replace('_', '-')}" for name in given)
        raise InvalidOptionError(
            f"{options}: a job goes on with the options that it was started with; start afresh with --new and the file"
        )


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _run(session: Session, request: "ImportRequest", resume_job: str | None) -> int:
    from penstock.cli.carrying import Carrier, status_of  # noqa: PLC0415 - imports Polars, which --help must not wait for
    from penstock.cli.choices import check_files  # noqa: PLC0415
    from penstock.cli.reports import check_target, format_of  # noqa: PLC0415

    if session.server and request.resume and resume_job is None:
        raise InvalidOptionError(
            "--resume: a server goes on with interrupted imports by itself; name one that failed or was cancelled with --resume-job ID"
        )
    check_files(request.files)
    if request.errors_to:
        format_of(request.errors_to)
        check_target("--errors-to", request.errors_to, request.files)
    if request.rejected_to:
        check_target("--rejected-to", request.rejected_to, request.files)
    if request.errors_to and request.rejected_to and request.errors_to.absolute() == request.rejected_to.absolute():
        raise InvalidOptionError("--errors-to and --rejected-to name the same file")
    with Interrupts(session) as interrupts, session.imports() as imports:
        carrier = Carrier(session, request, imports, interrupts)
        if resume_job is not None:
            return status_of(carrier.carry(_import_job(imports.get(JobId(resume_job)))))
        return carrier.carry_files() if request.files else carrier.carry_unfinished()


def _import_job(job: Job) -> Job:
    if job.type is not JobType.IMPORT:
        raise InvalidStateError(f"job {job.job_id} is an {job.type.lower()}: --resume-job goes on with imports", type=job.type.value)
    return job
