"""An import equals its records applied one by one, in file order, whatever the chunks, waves and partitions are."""

import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from penstock.imports import waves
from penstock.jobs.model import Empty, ImportOptions, Mode
from tests.imports.reference import COLUMNS, NOW, Record, Reference
from tests.imports.world import World, books

IDS = [str(UUID(int=n, version=4)) for n in range(1, 5)]
OWNERS = {"ann@example.com": str(UUID(int=101, version=4)), "bob@example.com": str(UUID(int=102, version=4))}
CODES = ["a", "b", "c", "d"]
TIME, LATER = "2024-05-01T10:00:00Z", "2024-06-01T10:00:00Z"

ids = st.sampled_from([None, None, *IDS])
record = st.fixed_dictionaries(
    {"code": st.sampled_from([*CODES, *CODES, *CODES, None])},
    optional={
        "id": ids,
        "title": st.sampled_from(["t", "u", "", None]),
        "note": st.sampled_from(["n", "m", "", None]),
        "state": st.sampled_from(["draft", "live", None]),
        "released_at": st.sampled_from([TIME, None, None]),
        "changed_at": st.sampled_from([TIME, LATER, None, None]),
        "owner_id": st.sampled_from([*OWNERS.values(), str(UUID(int=999, version=4)), None, None]),
        "owner_email": st.sampled_from([*OWNERS, "ANN@example.com", "eve@example.com", None, None, None]),
        "parts": st.lists(st.fixed_dictionaries({"label": st.sampled_from(["x", "y"])}), max_size=2),
    },
).map(lambda r: {"title": "t"} | r)


def shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stored_of(world: World) -> list[tuple[Any, ...]]:
    """Rows as the reference has them; ids that were made show as such."""
    rows = world.rows(
        "SELECT t.id::text, code, title, note, state, released_at, owner_id::text, changed_at,"
        " coalesce((SELECT json_agg(json_build_object('label', label) ORDER BY position) FROM parts WHERE thing_id = t.id), '[]') AS parts"
        " FROM things t ORDER BY code"
    )
    return [
        (
            r["id"] if r["id"] in IDS else "made",
            r["code"],
            r["title"],
            r["note"],
            r["state"],
            r["released_at"] and shown(r["released_at"]),
            r["owner_id"],
            shown(r["changed_at"]) if shown(r["changed_at"]) in {TIME, LATER} else NOW,
            r["parts"],
        )
        for r in rows
    ]


def expected_of(reference: Reference) -> list[tuple[Any, ...]]:
    rows = [(k if isinstance(k, str) else "made", *(v[name] for name in COLUMNS)) for k, v in reference.stored.items()]
    return sorted(rows, key=lambda row: row[1])


def prepare_world(world: World, before: list[Record]) -> Reference:
    world.execute("TRUNCATE owners, things, parts, penstock.jobs CASCADE")
    for email, owner_id in OWNERS.items():
        world.execute(f"INSERT INTO owners (id, email) VALUES ('{owner_id}', '{email}')")
    reference = Reference({}, OWNERS)
    for n, r in enumerate(before):
        reference.apply(n, r, "upsert", "keep")
    world.run("things", before or ["{}"])
    assert stored_of(world) == expected_of(reference)
    reference.counts.update(dict.fromkeys(reference.counts, 0))
    reference.codes.clear()
    return reference


@pytest.mark.timeout(300)
# Examples are small from the start; shrinking them takes minutes and says little more.
@settings(
    max_examples=120,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=st.lists(record, max_size=4),
    records=st.lists(record, min_size=1, max_size=14),
    mode=st.sampled_from(Mode),
    empty=st.sampled_from(Empty),
    chunk_bytes=st.sampled_from([1, 150, 400, 4_000_000]),
    partitions=st.sampled_from([1, 2, 3]),
    wave_chunks=st.sampled_from([1, 2, 6]),
)
# A record takes the code that an earlier one frees by renaming its row.
@example(
    before=[{"id": IDS[0], "code": "a", "title": "t"}],
    records=[{"id": IDS[0], "code": "b", "title": "t"}, {"code": "a", "title": "new"}],
    mode=Mode.UPSERT, empty=Empty.KEEP, chunk_bytes=4_000_000, partitions=2, wave_chunks=6,
)  # fmt: skip
# Two rows swap their codes by way of a third: what is refused and what is not depends on the order.
@example(
    before=[{"id": IDS[0], "code": "a", "title": "t"}, {"id": IDS[1], "code": "b", "title": "t"}],
    records=[{"id": i, "code": c, "title": "t"} for i, c in ((IDS[0], "c"), (IDS[1], "a"), (IDS[0], "b"))],
    mode=Mode.UPSERT, empty=Empty.KEEP, chunk_bytes=4_000_000, partitions=2, wave_chunks=6,
)  # fmt: skip
# Two records of one row, which must tell of the change as one alone would.
@example(
    before=[{"code": "a", "title": "t", "changed_at": TIME}],
    records=[{"code": "a", "title": "u"}, {"code": "a", "title": "v"}],
    mode=Mode.UPSERT, empty=Empty.KEEP, chunk_bytes=4_000_000, partitions=2, wave_chunks=6,
)  # fmt: skip
# The children alone change: of a row by itself, and of one that two records are about.
@example(
    before=[{"code": c, "title": "t", "changed_at": TIME} for c in ("a", "b")],
    records=[{"code": c, "title": "t", "parts": [{"label": "x"}]} for c in ("a", "b", "b")],
    mode=Mode.UPSERT, empty=Empty.KEEP, chunk_bytes=4_000_000, partitions=2, wave_chunks=6,
)  # fmt: skip
def test_equals_one_by_one(
    world: World, before: list[Record], records: list[Record], mode: Mode, empty: Empty, chunk_bytes: int, partitions: int, wave_chunks: int
) -> None:
    """Rows, counters and error codes are those of the reference, for entangled records in every mode."""
    reference = prepare_world(world, before)
    for number, r in enumerate(records, 1):
        reference.apply(number, r, mode, empty)
    imports = world.imports(chunk_bytes=chunk_bytes, partitions=partitions)
    with patch.object(waves, "WAVE_CHUNKS", wave_chunks):
        job = world.run("things", records, ImportOptions(mode=mode, empty=empty), imports=imports)
    assert job.error is None
    assert stored_of(world) == expected_of(reference), json.dumps(records)
    counts = reference.counts
    assert books(job) == (counts["imported"], counts["updated"], counts["unchanged"], counts["failed"])
    assert [(e["row"], e["code"]) for e in imports.errors(job.job_id)] == sorted(reference.codes, key=lambda c: c[0])
