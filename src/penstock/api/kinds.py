"""A job of the kind that an address is for; who asks for another kind's is told where it is."""

from penstock.api.parameters import job_id_of
from penstock.bootstrap import Application
from penstock.errors import JobNotFoundError
from penstock.jobs.model import Job, JobType


def import_of(application: Application, text: str) -> Job:
    """Raises InvalidIdError, JobNotFoundError. Not for the event loop."""
    return _of_kind(application.imports.get(job_id_of(text)), JobType.IMPORT)


def export_of(application: Application, text: str) -> Job:
    """As `import_of`."""
    return _of_kind(application.exports.get(job_id_of(text)), JobType.EXPORT)


def _of_kind(job: Job, kind: JobType) -> Job:
    if job.type is not kind:
        there = f"/v1/{job.type.lower()}s/{job.job_id}"
        raise JobNotFoundError(f"Job {job.job_id} is an {job.type.lower()}: it is at {there}.", job_id=job.job_id, type=job.type, at=there)
    return job
