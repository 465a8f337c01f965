"""Memory does not grow with what a file holds: each case runs in a process of its own and its peak is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

MIB = 1024 * 1024
PROGRAM = """
import sys
from pathlib import Path
from tests.formats.support import peak_bytes, reader_of
from penstock.formats.model import Position
import os

reader = reader_of(Path(sys.argv[1]))
if sys.argv[2] == "idle":
    print(peak_bytes(os.getpid()))
    raise SystemExit
good, kinds = 0, []
try:
    for chunk in reader.chunks(Position()):
        parsed = reader.parse(chunk)
        good += parsed.frame.height
        kinds += [problem.kind.value for problem in parsed.broken]
except Exception as fault:
    kinds.append(type(fault).__name__)
print(peak_bytes(os.getpid()), good, *kinds)
"""


def run(path: Path, what: str = "all") -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path), what], check=True, capture_output=True, text=True, timeout=100)
    return done.stdout.split()


def bomb(path: Path, before: bytes, block: bytes, times: int, after: bytes) -> Path:
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as out:
        out.write(before)
        for _ in range(times):
            out.write(block)
        out.write(after)
    return path


@pytest.mark.parametrize(
    ("name", "before", "block", "after", "expected"),
    [
        ("a.csv.zst", b"email,name\na,1\nb,", b"x", b"\nc,3\n", ["2", "record_too_large"]),
        ("a.csv.zst", b'email,name\na,1\nb,"', b"x\n", b'"\nc,3\n', ["2", "record_too_large"]),
        ("a.csv.zst", b'email,name\na,1\nb,"', b"x\n", b"", ["1", "TruncatedFileError"]),
        ("a.ndjson.zst", b'{"email":"a"}\n{"email":"', b"x", b'"}\n{"email":"c"}\n', ["2", "record_too_large"]),
        ("a.json.zst", b'[{"email":"a"},{"email":"', b"x", b'"},{"email":"c"}]', ["2", "record_too_large"]),
        ("a.json.zst", b'[{"email":"a"},', b"[", b"", ["1", "TruncatedFileError"]),
        ("a.json.zst", b'[{"email":"a"}', b" \n", b',{"email":"b"}]', ["1", "record_too_large"]),
        ("a.json.zst", b'[{"email":"a"},', b" \n", b'{"email":"b"}]', ["1", "record_too_large"]),
        ("a.ndjson.zst", b'{"email":"a"}\n', b" \n", b'{"email":"b"}', ["2"]),
        ("a.csv.zst", b"email\na\n", b"\n", b"b\n", ["2"]),
        ("a.json.zst", b'[{"email":"a"}]', b"x\n", b"", ["1", "malformed_json"]),
    ],
    ids=[
        "line",
        "quoted",
        "open-quote",
        "ndjson",
        "element",
        "brackets",
        "space",
        "space-in-element",
        "blank-lines",
        "blank-rows",
        "behind",
    ],
)
def test_a_gigabyte_in_one_record(tmp_path: Path, name: str, before: bytes, block: bytes, after: bytes, expected: list[str]) -> None:
    """1 GB (100 MB of what is slow) without an end of record, out of some kilobytes, costs one record, and reading goes on behind it."""
    amount = 100 if block in (b"[", b" \n") else 1000
    path = bomb(tmp_path / name, before, block * (MIB // len(block)), amount, after)
    peak, *found = run(path)
    assert found == expected
    assert int(peak) < 200 * MIB


def test_many_records(tmp_path: Path) -> None:
    """400 MB of records take a few chunks more than nothing at all."""
    row = b"someone@example.com,somebody of some name\n" * 1000
    small = bomb(tmp_path / "a.csv.zst", b"email,name\n", row, 1, b"")
    idle = int(run(small, "idle")[0])
    peak, good = run(bomb(tmp_path / "b.csv.zst", b"email,name\n", row, 10_000, b""))
    assert good == "10000000"
    assert int(peak) - idle < 100 * MIB
