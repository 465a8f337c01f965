"""The CSV reader against the slow reference, on texts made to be difficult, in chunks of any size, from any place."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import TruncatedFileError
from penstock.formats.model import Dialect, Format, Position, ReadOptions
from tests.formats.csv_reference import read_rows
from tests.formats.support import Outcome, drain, reader_of, written

HEADER = b"email,name\n"
DIALECT = Dialect(
    format=Format.CSV, columns=("email", "name"), fields={"email": "email", "name": "name"}, header_bytes=len(HEADER), header_lines=1
)
PIECES = [
    b'"',
    b'""',
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"a",
    b"\\.",
    b'"a","b"\n',
    b"a,b\n",
    b"\n\n",
    b'"\n"',
    "ü".encode(),
    b"\xff",
    b" ",
    b"\0",
]
BODIES = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)


def outcome_of(folder: Path, body: bytes, chunk_bytes: int, max_record_bytes: int = 10_000, start: Position | None = None) -> Outcome:
    with written(folder, "a.csv", HEADER + body) as path:
        options = ReadOptions(chunk_bytes=chunk_bytes, max_record_bytes=max_record_bytes)
        return drain(reader_of(path, options, dialect=DIALECT), start or Position())


@given(body=BODIES, chunk_bytes=st.integers(1, 60))
@SETTINGS
def test_reads_what_the_reference_reads(tmp_path: Path, body: bytes, chunk_bytes: int) -> None:
    """Every record of the reference is read with its line, its bytes and its cells, or rejected where the reference rejects it."""
    expected, open_quote = read_rows(body, ord(","))
    outcome = outcome_of(tmp_path, body, chunk_bytes)
    assert isinstance(outcome.error, TruncatedFileError) is open_quote
    assert list(outcome.raw.values()) == [row.raw for row in expected]
    assert list(outcome.lines.values()) == [row.line + 1 for row in expected]
    good = {number: row.cells for number, row in enumerate(expected, 1) if row.cells and len(row.cells) == 2 and _is_text(row.raw)}
    assert [row["row"] for row in outcome.rows] == list(good)
    assert outcome.kinds.keys() == set(range(1, len(expected) + 1)) - good.keys()
    for record, cells in zip(outcome.frame.to_dicts() if outcome.ends else [], good.values(), strict=True):
        assert [(record["email"] or "").encode(), (record["name"] or "").encode()] == cells


@given(body=BODIES, chunk_bytes=st.integers(1, 60), other=st.integers(1, 60))
@SETTINGS
def test_goes_on_from_any_chunk(tmp_path: Path, body: bytes, chunk_bytes: int, other: int) -> None:
    """From the end of any chunk of an earlier run, whatever its chunk size, exactly the rest is read."""
    whole = outcome_of(tmp_path, body, chunk_bytes)
    for end in whole.ends:
        rest = outcome_of(tmp_path, body, other, start=end)
        assert rest.raw == {row: raw for row, raw in whole.raw.items() if row >= end.row}
        assert rest.lines == {row: line for row, line in whole.lines.items() if row >= end.row}
        assert rest.verdicts == [verdict for verdict in whole.verdicts if verdict[0] >= end.row]
        assert rest.rows == [row for row in whole.rows if row["row"] >= end.row]
        assert str(rest.error) == str(whole.error)


@given(body=BODIES, chunk_bytes=st.integers(1, 60), limit=st.integers(1, 12))
@SETTINGS
def test_large_records_are_told_apart_block_by_block(tmp_path: Path, body: bytes, chunk_bytes: int, limit: int) -> None:
    """A record above the limit is one `record_too_large`, wherever it ends; all others are as without a limit."""
    expected, open_quote = read_rows(body, ord(","))
    outcome = outcome_of(tmp_path, body, chunk_bytes, limit)
    assert isinstance(outcome.error, TruncatedFileError) is open_quote
    assert len(outcome.raw) == len(expected)
    assert list(outcome.lines.values()) == [row.line + 1 for row in expected]
    for number, row in enumerate(expected, 1):
        assert (outcome.kinds.get(number) == "record_too_large") is (len(row.raw) > limit)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
