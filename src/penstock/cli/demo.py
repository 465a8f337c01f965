"""`penstock demo`: sample files go in, what was rejected is told; what landed goes out, and changes nothing when it comes back."""

import shlex
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from penstock.cli.failures import FAILED, INTERRUPTED, LANDED
from penstock.cli.interrupts import Interrupts
from penstock.cli.session import Session
from penstock.cli.terminal import clean, duration, plural, safe, size

if TYPE_CHECKING:  # they import Polars
    from penstock.bootstrap import Application
    from penstock.jobs.model import Job
    from penstock.samples import Manifest, SampleFile

_EXAMPLES = 3  # rejected records shown per file
_AGAIN = "users-with-addresses.json"
_EXPORTED = (("users", "exported-users.csv"), ("articles", "exported-articles.parquet"))
_LINES, _LINE_CHARACTERS = 3, 120  # of an exported file that are shown


class _Stopped(Exception):  # noqa: N818 - an end of the demo with its exit status, not an error
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def demo(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the sample files, the reports and the demo's database go.")
    ] = Path("demo-files"),
    scale: Annotated[float, typer.Option(min=0.004, max=10_000, help="How many times the usual size.")] = 1.0,
) -> int:
    """Show what Penstock does, on sample files. It has a database of its own unless DATABASE_URL or PENSTOCK_DATA_DIR is set."""
    session: Session = ctx.obj
    session.override("PENSTOCK_DATA_DIR", str((folder / "penstock-data").absolute()))
    from penstock.samples import write_samples  # noqa: PLC0415 - not needed for --help

    _say(session, "1. Write sample files, one bad record in twenty")
    manifest = write_samples(folder, scale)
    for file in manifest.files:
        size = f"{plural(file.records, 'record')}, {file.rejected:,} of them bad"
        session.out.print(safe(f"   {file.path}: ") + safe(size))
    with Interrupts(session) as interrupts, session.application() as application:
        try:
            _Demo(session, application, interrupts, manifest, folder).run()
        except _Stopped as stopped:
            return stopped.status
    _say_next(session, folder)
    return LANDED


class _Demo:
    """The steps that need the database."""

    def __init__(self, session: Session, application: "Application", interrupts: Interrupts, manifest: "Manifest", folder: Path) -> None:
        self._session, self._application, self._interrupts = session, application, interrupts
        self._manifest, self._folder = manifest, folder

    def run(self) -> None:
        _say(self._session, "2. Import them in order: what is referred to comes first")
        for file in self._manifest.files:
            self._import_and_explain(file)
        _say(self._session, f"3. Import {_AGAIN} again: nothing changes")
        self._import_again(self._manifest.named(_AGAIN))
        _say(self._session, "4. Export what landed, and import that again: still nothing changes")
        for resource, name in _EXPORTED:
            self._export_and_import(resource, self._folder / name)
        _say(self._session, "5. What stands in the tables now")
        for name in dict.fromkeys(file.resource for file in self._manifest.files):
            self._session.out.print(f"   {name}: {plural(self._application.imports.count(name), 'row')}")

    def _export_and_import(self, resource: str, path: Path) -> None:
        rows = self._exported(resource, path)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="\n") as file:
                for line in islice(file, _LINES):
                    self._session.out.print(safe(f"   {line.rstrip()}", "dim", _LINE_CHARACTERS))
        job = self._carried(resource, path, quiet=True)
        if (job.unchanged_rows, job.failed_rows) != (rows, 0):
            self._stop(f"{path.name}: {rows:,} records were exported, and {job.unchanged_rows:,} of them came back unchanged")
        self._session.out.print(f"   imported again: all {rows:,} unchanged")

    def _exported(self, resource: str, path: Path) -> int:
        from penstock.cli.delivering import Delivery  # noqa: PLC0415 - not needed for --help
        from penstock.cli.local import LocalExports  # noqa: PLC0415
        from penstock.cli.service import ExportRequest  # noqa: PLC0415
        from penstock.cli.targets import form_of, target_of  # noqa: PLC0415

        request = ExportRequest(resource, *form_of(str(path), None, None))
        target = target_of(str(path), force=True)
        done = Delivery(self._session, request, target, LocalExports(self._application), self._interrupts).deliver()
        self._session.out.print(
            safe(f"   {path}: ") + safe(f"{plural(done.rows or 0, 'record')}, {size(done.bytes)} in {duration(done.seconds)}")
        )
        return done.rows or 0

    def _import_and_explain(self, file: "SampleFile") -> None:
        job = self._carried(file.resource, file.path, errors_to=self._folder / f"errors-{file.path.stem}.ndjson")
        self._session.out.print("  Rejected, for example:")
        shown: set[str] = set()
        for error in job.errors:
            if error["code"] not in shown and len(shown) < _EXAMPLES:
                shown.add(error["code"])
                self._session.out.print(_example(error), soft_wrap=True)
        self._session.out.print()
        if job.failed_rows != file.rejected:
            self._stop(f"{file.path.name}: {file.rejected:,} bad records were put in, and {job.failed_rows:,} were rejected")

    def _import_again(self, file: "SampleFile") -> None:
        job = self._carried(file.resource, file.path, quiet=True)
        self._session.out.print(
            f"   {job.updated_rows:,} known already, {job.unchanged_rows:,} of them unchanged; {job.imported_rows:,} new; "
            f"{job.failed_rows:,} rejected as before"
        )
        if job.imported_rows or job.unchanged_rows != job.updated_rows:
            self._stop(f"{file.path.name}: the second import of the same file changed something")

    def _carried(self, resource: str, path: Path, *, errors_to: Path | None = None, quiet: bool = False) -> "Job":
        from penstock.cli.carrying import Carrier, ImportRequest, status_of  # noqa: PLC0415 - imports Polars, which --help must not wait for
        from penstock.cli.local import LocalImports  # noqa: PLC0415
        from penstock.formats.model import ReadOptions  # noqa: PLC0415
        from penstock.jobs.model import ImportOptions  # noqa: PLC0415

        request = ImportRequest(
            resource=resource,
            files=(str(path),),
            read=ReadOptions(),
            options=ImportOptions(),
            errors_to=errors_to,
            quiet=quiet,
        )
        carrier = Carrier(self._session, request, LocalImports(self._application), self._interrupts)
        job = carrier.carry(carrier.job_for(str(path)))
        if status_of(job) in (FAILED, INTERRUPTED):
            raise _Stopped(status_of(job))
        return job

    def _stop(self, reason: str) -> None:
        self._session.err.print(Text("error: ", style="bold red") + safe(reason), soft_wrap=True)
        raise _Stopped(FAILED)


def _example(error: dict[str, object]) -> Text:
    line = f", line {error['line']}" if error.get("line") is not None else ""
    field = f", {clean(error['field'])}" if error.get("field") else ""
    value = f" (found: {clean(error['value'], 40)})" if error.get("value") is not None else ""
    return (
        safe(f"    row {error['row']}{line}{field}: ", "dim")
        + safe(error["message"], limit=160)
        + safe(value)
        + safe(f"  {error['code']}", "yellow")
    )


def _say(session: Session, text: str) -> None:
    session.out.print()
    session.out.print(Text(text, style="bold"))


def _say_next(session: Session, folder: Path) -> None:
    # A database elsewhere is found through the same variables again; the demo's own has to be named.
    own = f"PENSTOCK_DATA_DIR={_typed(session.settings.penstock_data_dir)} " if session.overridden and session.settings.embedded else ""
    program = _program()
    _say(session, "Try next")
    for command in (
        f"{own}{program} jobs",
        f"{own}{program} import users {_typed(folder / 'users.csv')} --dry-run --rejected-to {_typed(folder / 'rejected.csv')}",
        f"{own}{program} export users --filter role=admin --fields email,name,created_at --format csv",
        f"{own}{program} import articles {_typed(folder / 'articles.ndjson')} --mode insert --atomic",
        f"{program} resources articles",
        f"{own}{program} serve   # then http://127.0.0.1:8080/docs",
        f"{own}{program} doctor",
    ):
        session.out.print(f"   {command}", soft_wrap=True)


def _program() -> str:
    """What has to be typed to run this program again: its path, where its name alone is not found."""
    called = Path(sys.argv[0])
    if shutil.which("penstock") or not called.is_file():
        return "penstock"
    try:
        return _typed(called.absolute().relative_to(Path.cwd()))
    except ValueError:
        return _typed(called)


def _typed(path: Path) -> str:
    """As it has to be typed in a shell."""
    return shlex.quote(clean(path))
