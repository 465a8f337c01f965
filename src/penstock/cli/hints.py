"""Commands to type next, true for where the jobs are: this machine's database, or a server."""

import shlex
from dataclasses import dataclass

from penstock.cli.terminal import clean


@dataclass(frozen=True, slots=True)
class Hints:
    server: str | None = None

    def command(self, text: str) -> str:
        """`errors 1234` as it has to be typed."""
        return f"penstock {text}" + (f" --server {shlex.quote(clean(self.server))}" if self.server else "")

    def go_on(self, job_id: str) -> str:
        """With a job that was cancelled. On a server others have theirs, so it is named."""
        return self.command(f"import --resume-job {job_id}" if self.server else "import --resume")

    def again(self, job_id: str) -> str:
        """With a job that failed."""
        return self.command(f"import --resume-job {job_id}" if self.server else f"import --resume --resume-job {job_id}")

    def export_address(self, job_id: str, action: str) -> str:
        """`download` or `retry`: through a server, which signs a link anew for each request, or whose workers carry the job."""
        return f"{clean(self.server) if self.server else '(a server of this database)'}/v1/exports/{job_id}/{action}"

    def left(self, job_id: str) -> str:
        """What became of a job that could not be watched to its end, and what to do."""
        if self.server:
            return f"Job {job_id} goes on without this command. Follow it with: {self.command(f'job {job_id} --follow')}"
        return f"Job {job_id} has not ended; what has landed stays. Go on with: {self.go_on(job_id)}"
