"""The input files: always the same bytes for the same number of rows, made once and kept in bench/data."""

import os
import random
import uuid
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
COLUMNS = ("id", "email", "name", "role", "active", "created_at", "updated_at")
SPOILED_EVERY = 50  # 2 %
# What stands in which column of a spoiled record. None breaks the shape of its row: a single row that does sends its whole chunk to the
# slow path, which is another measurement.
_FAULTS = (
    ("email", "user at example.com"),
    ("name", ""),
    ("role", "superuser"),
    ("id", "not-a-uuid"),
    ("active", "maybe"),
    ("created_at", "2024-02-30T00:00:00Z"),
    ("email", ""),
)
_EDITION = 1  # in the files' names: files that an earlier edition of this module made are not taken for these
_LINES_AT_ONCE = 50_000
_REPEATED_ROWS = 100_000
_SMALL_ROWS = 100
_DAY = "2024-01-01T00:00:00Z"
Values = list[str]


def csv_file(rows: int) -> Path:
    """124 bytes a row, without quotes."""
    return _kept(f"users-{rows}.csv", lambda: _csv(_users(rows)))


def ndjson_file(rows: int) -> Path:
    """The records of `csv_file`."""
    return _kept(f"users-{rows}.ndjson", lambda: map(_json_line, _users(rows)))


def spoiled_csv_file(rows: int) -> Path:
    """The records of `csv_file`, every fiftieth of them with one value that a rule of its field refuses."""
    return _kept(f"users-{rows}-spoiled.csv", lambda: _csv(_spoil(_users(rows))))


def large_file(size: int) -> Path:
    """So many bytes that begin as a CSV of users, over and over the same ones: for sending, not for importing."""
    return _kept(f"bytes-{size}.csv", lambda: _repeated(list(_csv(_users(_REPEATED_ROWS))), size))


def small_csv(number: int) -> bytes:
    """100 users, others for every number: the same bytes once more would be another request than a first one."""
    rng = random.Random(number)
    users = (
        [str(uuid.UUID(int=rng.getrandbits(128), version=4)), f"small{number}-{n}@example.com", f"Small {n}", "reader", "true", _DAY, _DAY]
        for n in range(_SMALL_ROWS)
    )
    return "".join(_csv(users)).encode()


def spoiled(rows: int) -> int:
    """How many of that many records are."""
    return rows // SPOILED_EVERY


def read_through(path: Path) -> None:
    """Bring the file into the page cache: what is measured is loading, not the disk that it comes from."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _users(rows: int) -> Iterator[Values]:
    rng = random.Random(7)
    for number in range(rows):
        # Random ids, as clients make them: both indexes are filled in another order than that of the file.
        user_id = uuid.UUID(int=rng.getrandbits(128), version=4)
        yield [
            str(user_id),
            f"user{number}@example.com",
            f"User {number}",
            "reader",
            "true",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:05:00Z",
        ]


def _spoil(users: Iterator[Values]) -> Iterator[Values]:
    for number, user in enumerate(users, 1):
        if number % SPOILED_EVERY == 0:
            column, value = _FAULTS[number // SPOILED_EVERY % len(_FAULTS)]
            user[COLUMNS.index(column)] = value
        yield user


def _csv(users: Iterator[Values]) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for user in users:
        yield ",".join(user) + "\n"


def _repeated(lines: list[str], size: int) -> Iterator[str]:
    left = size
    for line in cycle(lines):
        yield line[:left]
        if (left := left - len(line)) <= 0:
            return


def _json_line(user: Values) -> str:
    cells = (f'"{name}":{value}' if name == "active" else f'"{name}":"{value}"' for name, value in zip(COLUMNS, user, strict=True))
    return "{" + ",".join(cells) + "}\n"


def _kept(name: str, lines: Callable[[], Iterator[str]]) -> Path:
    """The file of this name; made under another name first, so that one whose making was stopped is not taken for whole."""
    path = FOLDER / f"{_EDITION}-{name}"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            _write(part, lines())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _write(path: Path, lines: Iterator[str]) -> None:
    with path.open("w", encoding="ascii", newline="") as out:
        while block := "".join(islice(lines, _LINES_AT_ONCE)):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())  # or the kernel writes it back while the first load is measured
