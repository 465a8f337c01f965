"""When a process counts as gone: only where that is certain."""

import subprocess
from pathlib import Path

import pytest

from penstock.lifecycle import process
from penstock.lifecycle.process import ProcessIdentity, is_gone, this_process


def test_hidden_process_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /proc that keeps the processes of others to itself looks as if they were not there."""
    with subprocess.Popen(["sleep", "60"]) as other:
        started = process._started(other.pid)
        assert started is not None
        identity = ProcessIdentity(this_process().host, other.pid, started)
        assert not is_gone(identity)
        with monkeypatch.context() as patch:
            patch.setattr(process, "_PROC", tmp_path)
            assert not is_gone(identity)
        other.kill()
    assert is_gone(identity)
