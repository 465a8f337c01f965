"""A `penstock` on the service in memory, for tests that need a process: `python -m tests.cli.with_fake BEHAVIOUR ARGUMENT...`."""

import sys

from penstock.cli.main import run
from penstock.cli.terminal import prepare_streams
from tests.cli.fakes import FakeImports, completed, session_with

BEHAVIOURS = {
    "good": FakeImports(),
    "rejecting": FakeImports(ending=lambda job: completed(job, 2)),
    "patient": FakeImports(waits_for_cancel=True),
    "stubborn": FakeImports(stubborn=True),
}

if __name__ == "__main__":
    prepare_streams()
    sys.exit(run(sys.argv[2:], session_with(BEHAVIOURS[sys.argv[1]])))
