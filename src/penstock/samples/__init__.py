"""Sample files: real-looking, always the same, with one record in twenty spoiled in every way that an import reports.

`write_samples` says what it put in, so that an import of the files can be held to it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from filecmp import cmp
from pathlib import Path

import msgspec

from penstock.samples import articles, comments, users
from penstock.samples.dice import Dice
from penstock.samples.schedule import BLOCK, Fault, Record, completes, fault_at

FEWEST = 2 * BLOCK  # below this no record is spoiled and nobody can be referred to


class SampleFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, and what its import into an empty database must report: records = imported + updated + rejected."""

    path: Path
    resource: str
    records: int
    imported: int
    updated: int
    rejected: int
    problems: Mapping[str, int]  # code -> problems; a record with three problems counts at three codes


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files, in the order in which they are to be imported: what is referred to comes first."""

    files: tuple[SampleFile, ...]

    def named(self, name: str) -> SampleFile:
        return next(f for f in self.files if f.path.name == name)


def write_samples(folder: Path, scale: float = 1) -> Manifest:
    """Write users.csv and users-with-addresses.json (10,000 records x `scale` each), articles.ndjson (15,000), comments.ndjson (20,000).

    The folder is made if it is not there; files of these names are replaced, unless they are the same already.
    Memory stays flat at any scale. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    people, pieces, remarks = (max(FEWEST, round(n * scale)) for n in (10_000, 15_000, 20_000))
    files = (
        _Plan(
            users.CSV_NAME,
            "users",
            people,
            users.csv_user,
            users.CSV_FAULTS,
            _csv_line,
            (",".join(users.COLUMNS).encode() + b"\n", b"\n", b"\n"),
        ),
        _Plan(users.JSON_NAME, "users", people, users.json_user, users.JSON_FAULTS, msgspec.json.encode, (b"[\n", b",\n", b"\n]\n")),
        _Plan(
            articles.NAME,
            "articles",
            pieces,
            lambda n: articles.article(n, people),
            articles.FAULTS,
            msgspec.json.encode,
            (b"", b"\n", b"\n"),
        ),
        _Plan(
            comments.NAME,
            "comments",
            remarks,
            lambda n: comments.comment(n, people, pieces),
            comments.FAULTS,
            msgspec.json.encode,
            (b"", b"\n", b"\n"),
        ),
    )
    return Manifest(files=tuple(plan.write(folder) for plan in files))


def _csv_line(record: Record) -> bytes:
    return users.csv_line(record).encode()


def _take_place(part: Path, path: Path) -> None:
    """A file that stands there with the same bytes is left alone: an unfinished import of it must find the file that it began with."""
    if path.exists() and cmp(part, path, shallow=False):
        part.unlink()
    else:
        part.replace(path)


class _Plan(msgspec.Struct, frozen=True):
    name: str
    resource: str
    records: int
    record: Callable[[int], Record]
    faults: Sequence[Fault]
    encode: Callable[[Record], bytes]
    frame: tuple[bytes, bytes, bytes]  # before the first record, between two, after the last

    def write(self, folder: Path) -> SampleFile:
        problems: Counter[str] = Counter()
        rejected = updated = 0
        first, between, last = self.frame
        path = folder / self.name
        part = folder / f".{self.name}.part"
        with part.open("wb") as out:
            out.write(first)
            for number, (data, fault) in enumerate(self._all()):
                out.write(between + data if number else data)
                problems.update(fault.codes if fault else ())
                rejected += fault is not None
                updated += fault is None and self.name == users.CSV_NAME and completes(number, self.name) is not None
            out.write(last)
        _take_place(part, path)
        return SampleFile(
            path=path,
            resource=self.resource,
            records=self.records,
            imported=self.records - updated - rejected,
            updated=updated,
            rejected=rejected,
            problems=dict(sorted(problems.items())),
        )

    def _all(self) -> Iterator[tuple[bytes, Fault | None]]:
        for number in range(self.records):
            record = self.record(number)
            fault = fault_at(number, self.name, self.faults)
            spoiled = fault.spoil(record, Dice(self.name, number, "fault"), number) if fault else record
            yield spoiled if isinstance(spoiled, bytes) else self.encode(spoiled), fault
