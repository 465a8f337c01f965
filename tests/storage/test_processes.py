"""Whole processes that store: killed in the middle, or watched for their memory."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from penstock.storage import Key
from tests.support.storages import Place

MIB = 1024 * 1024
_SECONDS = 60


@contextmanager
def filler(stored: Place, size: int, what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.storage.filler", stored.key(), str(size), what]
    with subprocess.Popen(command, env={**stored.env, "PYTHONPATH": "."}, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_memory_does_not_grow_with_the_object(stored: Place) -> None:
    """80 MB pass through a process that grows by less than that: by the parts that are under way to a bucket, by little for a folder."""
    with filler(stored, 80, "whole") as process:
        size, growth = map(int, process.communicate(timeout=_SECONDS)[0].split())
    assert process.returncode == 0  # it ends as well as it worked
    assert size == 80 * MIB
    assert growth < (16 if stored.kind == "folder" else 64) * MIB


def test_a_killed_process_leaves_nothing_to_see(stored: Place) -> None:
    """Its object is not there, what lay there before still is. What it left in a folder is swept; a bucket's own rules do that there."""
    with filler(stored, 20, "stuck") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        before = stored.storage.stat(stored.key())
        process.kill()
        process.wait(_SECONDS)
    assert stored.storage.stat(stored.key()) == before
    assert before.size == MIB
    assert stored.keys() == [stored.key()]
    assert len(stored.remains()) == 1
    assert stored.storage.sweep_leftovers(timedelta(hours=1)) == 0
    assert stored.storage.sweep_leftovers(timedelta(0)) == (1 if stored.kind == "folder" else 0)
    assert len(stored.remains()) == (0 if stored.kind == "folder" else 1)
    assert stored.keys() == [stored.key()]


def test_a_running_put_is_not_swept(stored: Place) -> None:
    """What somebody writes to is no leftover, and the put ends well."""

    def sweeping() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * MIB
            assert stored.storage.sweep_leftovers(timedelta(minutes=1)) == 0

    assert stored.storage.write(Key(stored.key()), sweeping()).size == 3 * MIB
