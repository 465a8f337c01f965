"""Jobs that can be gone on with."""

from datetime import datetime

from penstock.cli.service import ImportService
from penstock.jobs.model import Job, JobStatus, JobType

_PAGE = 200


def unfinished_jobs(imports: ImportService, resource: str | None) -> list[Job]:
    """Interrupted and cancelled imports, the oldest first, since later files may refer to what earlier ones bring.

    Left out are those that a worker carries, dry runs, and cancelled jobs after which the same file was imported anew: going on with those
    would undo what came later.
    """
    waiting = (JobStatus.PENDING, JobStatus.PROCESSING, JobStatus.CANCELLED)
    found = [
        job
        for status in waiting
        for job in _listed(imports, resource, status.value)
        if job.type is JobType.IMPORT and not job.dry_run and not job.queued
    ]
    if not found:
        return []
    newest = _newest_by_source(imports, resource, min(job.created_at for job in found))
    kept = (job for job in found if job.status is not JobStatus.CANCELLED or newest.get(_source(job), job.created_at) <= job.created_at)
    return sorted(kept, key=lambda job: job.created_at)


def _source(job: Job) -> tuple[str, str]:
    return job.resource, job.source_name


def _newest_by_source(imports: ImportService, resource: str | None, since: datetime) -> dict[tuple[str, str], datetime]:
    newest: dict[tuple[str, str], datetime] = {}
    for job in _listed(imports, resource, None, since):
        if not job.dry_run:
            newest.setdefault(_source(job), job.created_at)
    return newest


def _listed(imports: ImportService, resource: str | None, status: str | None, since: datetime | None = None) -> list[Job]:
    jobs: list[Job] = []
    cursor: str | None = None
    while True:
        page, cursor = imports.list(status=status, resource=resource, limit=_PAGE, cursor=cursor)
        jobs += [job for job in page if since is None or job.created_at >= since]
        if cursor is None or (since is not None and page and page[-1].created_at < since):
            return jobs
