"""The error report of an ended job as an object in storage, published when it is whole."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.bootstrap import Application
from penstock.crashpoints import CrashPoint, reach
from penstock.database.jsonb import jsonb
from penstock.database.sqlstates import translated
from penstock.errors import PenstockError
from penstock.jobs.model import JobId, Report
from penstock.logs import get_logger
from penstock.storage.model import Key
from penstock.workers.turns import SQL, Turn, turn

CONTENT_TYPE = "application/x-ndjson"
_BLOCK_BYTES = 256 * 1024
_GRACE_SECONDS = 30  # whoever ended the job packs its report


class Packing:
    """May be used by several threads; two processes that pack one report write the same bytes under the same key."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def pack(self, job_id: JobId) -> None:
        """Nothing happens for a job that has no rejected records, or has its report already. Raises DatabaseError, StorageError."""
        file_hours = self._application.settings.file_retention_hours
        with self._application.database.connection() as connection, translated("packing a report"):
            row = connection.execute(SQL["to_pack"], {"job_id": job_id, "file_hours": file_hours}).fetchone()
            if row is None or not row[3]:
                return
            epoch = row[1]
            key = Key(f"reports/{job_id}/{epoch}/errors.ndjson")
            connection.execute(SQL["note_report"], {"key": key, "job_id": job_id})
        blocks = _Blocks(self._application.imports.errors(job_id))
        self._application.storage.write(key, iter(blocks), content_type=CONTENT_TYPE)
        reach(CrashPoint.REPORT_PACKED)
        report = Report(key=key, size=blocks.size, sha256=blocks.sha256)
        values = {"key": key, "job_id": job_id, "epoch": epoch, "file_hours": file_hours, "size": report.size, "sha256": report.sha256}
        with self._application.database.connection() as connection, translated("publishing a report"):
            connection.execute(SQL["publish_report"], {**values, "report": jsonb(msgspec.to_builtins(report))})
        reach(CrashPoint.REPORT_PUBLISHED)
        get_logger(__name__).debug("report packed", job_id=job_id, size=report.size)

    def catch_up(self) -> None:
        """Pack what nobody packed, one worker at a time, for as long as the reports are long. One that cannot be packed does not keep the
        others. Raises DatabaseError.
        """
        with turn(self._application.database, Turn.PACKING) as mine:
            if mine is None:
                return
            mine.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            values = {"grace_seconds": _GRACE_SECONDS, "file_hours": self._application.settings.file_retention_hours}
            for (job_id,) in mine.execute(SQL["unpacked"], values).fetchall():
                self.try_to_pack(JobId(str(job_id)))

    def try_to_pack(self, job_id: JobId) -> None:
        """What stands in the way is logged; it is tried again later."""
        try:
            self.pack(job_id)
        except PenstockError as error:
            get_logger(__name__).warning("the report will be packed later", job_id=job_id, code=error.code, reason=error.message)
        except Exception:  # noqa: BLE001 - as above
            get_logger(__name__).exception("packing a report broke", job_id=job_id)


class _Blocks:
    """NDJSON in blocks, with size and digest of what has passed."""

    def __init__(self, records: Iterator[dict[str, Any]]) -> None:
        self._records = records
        self._digest = hashlib.sha256()
        self.size = 0  # bytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        encoder = msgspec.json.Encoder()
        block = bytearray()
        for record in self._records:
            block += encoder.encode(record) + b"\n"
            if len(block) >= _BLOCK_BYTES:
                yield self._passed(bytes(block))
                block.clear()
        if block:
            yield self._passed(bytes(block))

    def _passed(self, block: bytes) -> bytes:
        self.size += len(block)
        self._digest.update(block)
        return block
