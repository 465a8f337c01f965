"""Filters that resources declare: what they look at, and each fault named."""

from pathlib import Path

import msgspec
import pytest

from penstock.api.resources import resource_view
from penstock.client.schemas import ResourceView, resource_of
from penstock.resources.describing import FilterDescription, described
from penstock.resources.registry import Registry
from tests.resources.test_descriptors import SOUND, faults, load

PARTS = """
name: parts
schema:
  primaryKey: id
  fields:
    - {name: id, type: string, format: uuid}
    - {name: thing_id, type: string, format: uuid}
    - {name: label, type: string}
    - {name: marks, type: list}
  foreignKeys:
    - {fields: thing_id, reference: {resource: things, fields: id}}
  children:
    - {field: bits, table: bits, parentColumn: part_id, fields: [{name: a}]}
  filters:
    - {name: thing, description: Parts of a thing., fields: [thing_id.code, thing_id.id, label]}
    - {name: mark, fields: [marks]}
"""


def test_filters_look_at_fields_and_through_references(tmp_path: Path) -> None:
    """A path with a dot leads to a field of what the foreign key refers to."""
    parts = load(tmp_path, PARTS, SOUND).get("parts")
    thing, mark = parts.filters
    assert [(t.path, t.reference and t.reference.resource) for t in thing.targets] == [
        ("thing_id.code", "things"),
        ("thing_id.id", "things"),
        ("label", None),
    ]
    assert mark.targets[0].field is parts.by_name["marks"]
    assert described(parts).filters == [
        FilterDescription(name="thing", fields=["thing_id.code", "thing_id.id", "label"], description="Parts of a thing."),
        FilterDescription(name="mark", fields=["marks"]),
    ]


@pytest.mark.parametrize(
    ("part", "instead", "place", "message"),
    [
        ("name: mark,", "name: label,", "[1].name", "label is taken"),
        ("name: mark,", "name: thing,", "[1].name", "thing is taken"),
        ("name: mark,", "name: bits,", "[1].name", "bits is taken"),
        ("name: mark,", "name: format,", "[1].name", "a parameter of requests"),
        ("name: mark,", "name: Mark,", "[1].name", "lower-case"),
        ("name: mark,", "", "[1].name", "is required"),
        ("name: mark,", "name: thing_code,", "[1].name", "by natural key"),
        ("[marks]", "[]", "[1].fields", "at least one"),
        ("[marks]", "marks", "[1].fields", "Expected `array`"),
        ("[marks]", "[marks, marks]", "[1].fields", "marks stands twice"),
        ("[marks]", "[mark]", "[1].fields", "mark is not a field; fields are id, thing_id"),
        ("[marks]", "[bits]", "[1].fields", "a list of children"),
        ("[marks]", "[label.code]", "[1].fields", "no foreign key; foreign keys are thing_id"),
        ("[marks]", "[thing_id.code.x]", "[1].fields", "with one dot between"),
        ("[marks]", "[thing_id.]", "[1].fields", "things has no such field; its fields are id, code"),
        ("[marks]", "[thing_id.cod]", "[1].fields", "things has no such field; its fields are id, code"),
        ("[marks]", "[marks], field: a", "[1].field", "allowed are name, fields, description"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, part: str, instead: str, place: str, message: str) -> None:
    """One fault in a sound descriptor is reported once, at its place, with what is allowed."""
    assert part in PARTS
    found = faults(tmp_path, PARTS.replace(part, instead), SOUND)
    assert [p for p, _ in found] == [f"schema.filters{place}"]
    assert message in found[0][1]


def test_faults_of_filters_come_at_once_and_none_twice(tmp_path: Path) -> None:
    """All of a descriptor's, but none for a field or a key that is at fault itself."""
    broken = PARTS.replace("[marks]", "[nope, bits]").replace("label]", "label, label]")
    assert [p for p, _ in faults(tmp_path, broken, SOUND)] == ["schema.filters[0].fields", *["schema.filters[1].fields"] * 2]
    unread = PARTS.replace("{name: label, type: string}", "{name: label, type: text}")
    assert [p for p, _ in faults(tmp_path, unread, SOUND)] == ["schema.fields[2] (label).type"]
    nowhere = PARTS.replace("resource: things", "resource: thing")
    assert [p for p, _ in faults(tmp_path, nowhere, SOUND)] == ["schema.foreignKeys[0].reference.resource"]


def test_filters_of_the_shipped_resources() -> None:
    """The words that clients of the API know."""
    named = {r.name: {f.name: [t.path for t in f.targets] for f in r.filters} for r in Registry.load()}
    assert named == {
        "users": {"username": ["name"]},
        "articles": {"author": ["author_id.email", "author_id.name", "author_id.id"], "tag": ["tags"]},
        "comments": {"article": ["article_id.slug", "article_id.id"], "user": ["user_id.email", "user_id.name", "user_id.id"]},
        "products": {},
    }


def test_a_server_tells_its_filters() -> None:
    """What GET /v1/resources answers, read by a client, describes the same filters as the declaration."""
    articles = Registry.load().get("articles")
    told = msgspec.json.decode(msgspec.json.encode(resource_view(articles)), type=ResourceView)
    assert resource_of(told).filters == described(articles).filters != []
