"""A small world to import into: owners, and things that refer to them, have parts and obey a rule. And the engine over it."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from psycopg.rows import dict_row

from penstock.bootstrap import prepare
from penstock.database.connect import Database
from penstock.formats.model import ReadOptions
from penstock.imports.service import Imports, Progress
from penstock.jobs.model import ImportOptions, Job
from penstock.queue import Queue
from penstock.resources.registry import Registry
from penstock.settings import Settings
from penstock.sources import Sources
from penstock.storage.model import Storage

OWNERS = """
name: owners
schema:
  primaryKey: id
  naturalKey: email
  caseless: true
  fields:
    - {name: id, type: string, format: uuid}
    - {name: email, type: string, format: email, constraints: {required: true, maxLength: 320}}
"""
THINGS = """
name: things
schema:
  primaryKey: id
  naturalKey: code
  fields:
    - {name: id, type: string, format: uuid}
    - {name: code, type: string, constraints: {required: true, pattern: "^[a-z]+$", maxLength: 20}}
    - {name: title, type: string, constraints: {required: true, maxLength: 9}}
    - {name: note, type: string}
    - {name: initials, type: string, constraints: {minLength: 2}}
    - {name: state, type: string, default: draft, constraints: {enum: [draft, live]}}
    - {name: released_at, type: datetime}
    - {name: owner_id, type: string, format: uuid}
    - {name: changed_at, type: datetime, default: now(), touch: true}
  foreignKeys:
    - {fields: owner_id, reference: {resource: owners, fields: id}}
  children:
    - field: parts
      table: parts
      parentColumn: thing_id
      fields:
        - {name: label, type: string, constraints: {required: true}}
  rules:
    - code: draft_is_not_released
      field: released_at
      expression: "state <> 'draft' OR released_at IS NULL"
      message: a draft has no released_at
"""


class World:
    """The engine on one database, with knobs that production does not have: how small chunks are, how many partitions."""

    def __init__(self, conninfo: str, folder: Path, *more: str) -> None:
        for number, descriptor in enumerate((OWNERS, THINGS, *more)):
            (folder / f"resource-{number}.yaml").write_text(descriptor)
        self.folder = folder
        self.conninfo = conninfo
        self.registry = Registry.load(folder)
        self.database = Database(conninfo)
        prepare(self.database, self.registry)
        self._file = folder / "records.ndjson"

    def close(self) -> None:
        self.database.close()

    def imports(
        self, *, chunk_bytes: int = 4 * 1024 * 1024, partitions: int = 2, lease_seconds: int = 30, max_record_bytes: int = 16 * 1024 * 1024
    ) -> Imports:
        settings = Settings(_env_file=None).model_copy(  # type: ignore[call-arg]  # pydantic-settings' own parameter
            update={
                "import_chunk_size": chunk_bytes,
                "import_job_lease_seconds": lease_seconds,
                "max_record_bytes": max_record_bytes,
            }
        )
        return Imports(
            self.database, self.registry, settings, sources=Sources(no_storage), queue=Queue(self.database), partitions=partitions
        )

    def file(self, records: Iterable[Any]) -> Path:
        """An NDJSON file of the records; a text stands for itself."""
        lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
        self._file.write_text("".join(line + "\n" for line in lines), "utf-8")
        return self._file

    def run(
        self,
        resource: str,
        records: Iterable[Any] | Path,
        options: ImportOptions | None = None,
        *,
        read: ReadOptions | None = None,
        imports: Imports | None = None,
        progress: Any = None,
    ) -> Job:
        imports = imports or self.imports()
        path = records if isinstance(records, Path) else self.file(records)
        job = imports.create(resource, str(path), read=read or ReadOptions(), options=options or ImportOptions())
        return imports.run(job.job_id, progress=progress or ignore, cancel=threading.Event())

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.database.connect(autocommit=True) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement).fetchall()

    def execute(self, statement: str) -> None:
        with self.database.connect(autocommit=True) as connection:
            connection.execute(statement)


def no_storage() -> Storage:
    """For imports of local files."""
    raise AssertionError("local files need no storage")


def ignore(_progress: Progress) -> None:
    """Nobody watches."""


def books(job: Job) -> tuple[int, int, int, int]:
    """imported, updated, unchanged, failed; after making sure that they add up."""
    assert job.total_rows == job.processed_rows == job.imported_rows + job.updated_rows + job.failed_rows
    return job.imported_rows, job.updated_rows, job.unchanged_rows, job.failed_rows
