"""The sample files are what their manifest says, and the same everywhere."""

import csv
import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import pytest

from penstock.samples import Manifest, write_samples
from penstock.samples import articles as article_samples
from penstock.samples import comments as comment_samples
from penstock.samples import users as user_samples
from penstock.samples.dice import Dice, uuid_for
from penstock.samples.schedule import completes, is_spoiled

SCALE = 0.1


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_samples(tmp_path_factory.mktemp("samples"), SCALE)


def test_two_runs_write_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    """The files depend on nothing but the scale."""
    for file in write_samples(tmp_path / "again", SCALE).files:
        assert file.path.read_bytes() == manifest.named(file.path.name).path.read_bytes()


def test_the_bytes_do_not_depend_on_the_machine(manifest: Manifest) -> None:
    """The draws of one file, held by their digest: a Python or a library that draws or encodes otherwise is noticed."""
    digest = hashlib.sha256(manifest.named("users.csv").path.read_bytes()).hexdigest()
    assert digest == "14efa8d582fa09f2b5dfdbb493e71dc53b849fbfc43e9504614abe8d1a38ac0e"


def test_full_size_is_what_the_documentation_says(tmp_path: Path) -> None:
    """users.csv 10,000 records, users-with-addresses.json 10,000, articles.ndjson 15,000, comments.ndjson 20,000; one in twenty is bad."""
    files = write_samples(tmp_path, 1).files
    assert [(f.path.name, f.records) for f in files] == [
        ("users.csv", 10_000),
        ("users-with-addresses.json", 10_000),
        ("articles.ndjson", 15_000),
        ("comments.ndjson", 20_000),
    ]
    assert all(0.045 < f.rejected / f.records <= 0.05 for f in files)
    assert all(f.path.stat().st_size > 1_000_000 for f in files)


def test_books_balance(manifest: Manifest) -> None:
    """The records are imported, updated or rejected, and no rejected record is without a problem."""
    for file in manifest.files:
        assert file.records == file.imported + file.updated + file.rejected
        assert sum(file.problems.values()) >= file.rejected


def test_every_code_that_these_files_can_provoke_is_there(manifest: Manifest) -> None:
    """Of API.md's error table only duplicate_id and not_found (other modes), too_short and out_of_range (no such field) are missing."""
    codes = {code for file in manifest.files for code in file.problems}
    assert codes >= {
        *("malformed_row", "malformed_json", "not_an_object", "invalid_encoding", "nested_too_deep"),
        *("email_required", "name_required", "slug_required", "title_required", "body_required", "street_required"),
        *("author_id_required", "article_id_required", "user_id_required"),
        *("invalid_id", "invalid_role", "invalid_active", "invalid_created_at", "invalid_status", "invalid_tags", "invalid_published_at"),
        *("invalid_name", "invalid_addresses", "invalid_email_format", "invalid_slug_format"),
        *("name_too_long", "phone_number_too_long", "zip_code_too_long", "body_too_long", "body_exceeds_500_words"),
        *("draft_cannot_have_published_at", "invalid_author_id", "invalid_article_id", "invalid_user_id"),
        *("duplicate_email", "duplicate_slug"),
    }


def test_csv_rows_are_well_formed_where_they_should_be(manifest: Manifest) -> None:
    """Python's own reader finds each good row with as many cells as the header; quoted commas and quotes are among them."""
    lines = manifest.named("users.csv").path.read_bytes().split(b"\n")[1:-1]
    assert len(lines) == 1000
    good = [line.decode() for n, line in enumerate(lines) if not is_spoiled(n, "users.csv")]
    rows = list(csv.reader(good, strict=True))
    assert {len(row) for row in rows} == {len(user_samples.COLUMNS)}
    assert any("," in row[2] for row in rows)
    assert any('"' in row[2] for row in rows)


def test_a_completion_changes_nothing_but_the_missing_phone_number(manifest: Manifest) -> None:
    """The later record has the same values, so that a second import of the file finds all of it unchanged."""
    text = manifest.named("users.csv").path.read_bytes().decode("utf-8", "replace")
    lines = text.split("\n")[1:-1]
    pairs = [(n, first) for n in range(len(lines)) if (first := completes(n, "users.csv")) is not None]
    assert len(pairs) == manifest.named("users.csv").updated == 10
    for later, first in pairs:
        before, after = (next(csv.DictReader(io.StringIO(lines[n]), user_samples.COLUMNS)) for n in (first, later))
        assert first < later
        assert before.pop("phone_number") == ""
        assert after.pop("phone_number") != ""
        assert before == after


def test_good_json_records_decode_and_name_what_exists(manifest: Manifest) -> None:
    """Every good article and comment refers to good records of the files before it, some by natural key, some by both."""
    people = manifest.named("users.csv").records
    ids = {user_samples.user_id(n) for n in range(people) if user_samples.is_user(n) and user_samples.has_id(n)}
    mails = {user_samples.email(n) for n in range(people) if user_samples.is_user(n)}
    pieces = list(_good(manifest, article_samples.NAME))
    assert all(p.get("author_id") in ids or p.get("author_email") in mails for p in pieces)
    assert any("author_id" in p and "author_email" in p for p in pieces)
    assert any("author_id" not in p for p in pieces)
    written = {p.get("id") for p in pieces}
    slugs = {p["slug"] for p in pieces}
    assert len(slugs) == len(pieces)
    for remark in _good(manifest, comment_samples.NAME):
        assert remark.get("article_id") in written - {None} or remark["article_slug"] in slugs
        assert remark.get("user_id") in ids or remark["user_email"] in mails


def test_only_spoiled_lines_are_no_json_objects(manifest: Manifest) -> None:
    """Each line that does not decode to an object was put in to be one, and is counted."""
    for name in (article_samples.NAME, comment_samples.NAME):
        file = manifest.named(name)
        counted = {"malformed_json": 0, "not_an_object": 0, "invalid_encoding": 0}
        for line in file.path.read_bytes().split(b"\n")[:-1]:
            try:
                counted["not_an_object"] += not isinstance(json.loads(line), dict)
            except UnicodeDecodeError:
                counted["invalid_encoding"] += 1
            except json.JSONDecodeError:
                counted["malformed_json"] += 1
        assert counted == {code: file.problems[code] for code in counted}


def test_memory_does_not_grow_with_the_scale(tmp_path: Path) -> None:
    """Three times the records take no more memory: no file and no list of users is held."""
    peaks = []
    write_samples(tmp_path, 0.02)  # what is made once, the stock of sentences among it
    for scale in (0.05, 0.15):
        tracemalloc.start()
        write_samples(tmp_path, scale)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5


def test_ids_are_uuids_of_version_4() -> None:
    """36 characters, version and variant where they belong, different for different keys."""
    one, other = uuid_for("x", 1), uuid_for("x", 2)
    assert one != other
    assert (len(one), one[14], one[19]) == (36, "4", "a")


def test_dice_never_run_dry() -> None:
    """A record may draw as often as it likes: the draws stay in range and go on varying."""
    dice = Dice("endless")
    drawn = [dice.between(1, 1000) for _ in range(2000)]
    assert min(drawn) >= 1
    assert max(drawn) <= 1000
    assert len(set(drawn[1000:])) > 500


def _good(manifest: Manifest, name: str) -> list[dict[str, str]]:
    lines = manifest.named(name).path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for n, line in enumerate(lines) if not is_spoiled(n, name)]
