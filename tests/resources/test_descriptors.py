"""Descriptors: each fault is named with its place, all faults at once."""

from pathlib import Path

import pytest

from penstock.errors import InvalidResourceError, UnknownResourceError
from penstock.resources.model import FieldType
from penstock.resources.registry import Registry

SOUND = """
name: things
schema:
  primaryKey: id
  naturalKey: code
  fields:
    - {name: id, type: string, format: uuid, constraints: {unique: true}}
    - {name: code, type: string, constraints: {required: true, maxLength: 20}}
    - {name: price, type: number, precision: 6, scale: 2, default: 1.5}
    - {name: state, type: string, default: no, constraints: {enum: [yes, no]}}
    - {name: tags, type: array, itemType: string, default: [a]}
    - {name: since, type: datetime, default: now()}
  rules:
    - {code: no_price, field: price, expression: "state <> 'no' OR price IS NULL", message: what is off has no price}
"""


def load(tmp_path: Path, *texts: str) -> Registry:
    for earlier in tmp_path.glob("*.yaml"):
        earlier.unlink()
    for n, text in enumerate(texts):
        (tmp_path / f"{n}.yaml").write_text(text, encoding="utf-8")
    return Registry.of(tmp_path)


def faults(tmp_path: Path, *texts: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidResourceError) as caught:
        load(tmp_path, *texts)
    found = caught.value.details["faults"]
    assert all(f["file"] in caught.value.message and f["message"] in caught.value.message for f in found)
    return [(f["place"], f["message"]) for f in found]


def test_a_sound_descriptor(tmp_path: Path) -> None:
    """YAML's `no` is a text here, a number's default keeps its digits, and a list may be called array."""
    things = load(tmp_path, SOUND).get("things")
    assert things.table == "things"
    assert things.by_name["state"].enum == ("yes", "no")
    assert things.by_name["state"].default == "no"
    assert things.by_name["price"].default == "1.5"
    assert things.by_name["tags"].type is FieldType.STRINGS
    assert things.rules[0].fields == ("state", "price")


FAULTS = [
    ("name: things", "name: Things", "name", "lower-case letters"),
    ("name: things", "name: " + "t" * 60, "name", "at most 59"),
    ("name: things", "name: things\nnmae: x", "nmae", "allowed are name, "),
    ("name: things", "name: things\nname: x", "", "'name' stands twice"),
    ("name: things\n", "", "name", "is required"),
    ("name: things", "name: [", "", "not valid YAML"),
    ("primaryKey: id", "primaryKey: [id, code]", "schema.primaryKey", "one field"),
    ("primaryKey: id", "primaryKey: nope", "schema.primaryKey", "fields are id, code"),
    ("naturalKey: code", "naturalKey: price", "schema.naturalKey", "cannot be a key"),
    ("naturalKey: code", "caseless: true", "schema.caseless", "needs a naturalKey"),
    (", maxLength: 20", "", "schema.naturalKey", "maxLength of at most 600"),
    ("required: true, ", "", "schema.naturalKey", "must be required"),
    ("unique: true", "uniq: true", "schema.fields[0].constraints.uniq", "allowed are required, unique"),
    ("maxLength: 20", "maxLength: x", "schema.fields[1].constraints.maxLength", "'x' is not allowed"),
    ("maxLength: 20", "minLength: 30, maxLength: 20", "schema.fields[1] (code).constraints", "above maxLength"),
    ("maxLength: 20", 'maxLength: 20, pattern: "("', "schema.fields[1] (code).constraints.pattern", "not a regular expression"),
    ("maxLength: 20", 'maxLength: 20, pattern: "(?=a)"', "schema.fields[1] (code).constraints.pattern", "look-around"),
    (
        "{name: price, type: number",
        "{name: price, type: money",
        "schema.fields[2] (price).type",
        "allowed are string, string with format email",
    ),
    ("precision: 6, scale: 2", "scale: 2", "schema.fields[2] (price)", "needs a precision"),
    ("precision: 6, scale: 2", "precision: 6, scale: 7", "schema.fields[2] (price)", "needs a precision"),
    ("default: 1.5", "default: 1.555", "schema.fields[2] (price).default", "breaks the field's own rules"),
    ("default: 1.5", "constraints: {minimum: 1.555}", "schema.fields[2] (price).constraints.minimum", "could hold"),
    ("default: 1.5", "constraints: {minimum: 5, maximum: 4}", "schema.fields[2] (price).constraints", "minimum is above maximum"),
    ("default: 1.5", "constraints: {pattern: a}", "schema.fields[2] (price).constraints", "means nothing"),
    ("default: 1.5", "constraints: {unique: true}", "schema.fields[2] (price).constraints.unique", "only the primary key"),
    ("default: 1.5", "default: ''", "schema.fields[2] (price).default", "no value of the type number"),
    ("default: 1.5", "default: now()", "schema.fields[2] (price).default", "of datetimes only"),
    ("default: now()", "touch: true", "schema.fields[5] (since).touch", "needs the default now()"),
    ("default: 1.5", "default: 1.5, touch: true", "schema.fields[2] (price).touch", "needs the default now()"),
    (
        "type: number, precision: 6, scale: 2, default: 1.5",
        "type: boolean, default: yes",
        "schema.fields[2] (price).default",
        "true or false",
    ),
    (
        "type: number, precision: 6, scale: 2, default: 1.5",
        "type: boolean, default: 1",
        "schema.fields[2] (price).default",
        "true or false",
    ),
    (
        "type: number, precision: 6, scale: 2, default: 1.5",
        "type: string, format: uuid, default: 7d444840-9dc0-11d1-b245-5ffdce74fad2",
        "schema.fields[2] (price).default",
        "a uuid has no default",
    ),
    ("default: [a]", "default: a", "schema.fields[4] (tags).default", "a JSON array of texts"),
    ("default: [a]", "default: ''", "schema.fields[4] (tags).default", "no value"),
    ("default: [a]", "default: '[1]'", "schema.fields[4] (tags).default", "a JSON array of texts"),
    ("default: now()", "default: 2024-01-01T00:00:00Z", "schema.fields[5] (since).default", "only default is now()"),
    ("maxLength: 20}", "maxLength: 20}, default: a", "schema.naturalKey", "cannot have a default"),
    ("name: things", "name: things\ntable: " + "t" * 41, "table", "at most 40"),
    ("name: things", "name: " + "t" * 41, "name", "at most 40"),
    ("type: string, format: uuid, constraints: {unique: true}", "type: integer", "schema.primaryKey", "string, string with format uuid"),
    ("primaryKey: id", "primaryKey: since", "schema.primaryKey", "cannot be a key"),
    ("default: no", "default: maybe", "schema.fields[3] (state).default", "invalid_enum: yes, no"),
    ("enum: [yes, no]", "enum: [yes, 1]", "schema.fields[3].constraints.enum", "Expected `str`"),
    ("enum: [yes, no]", "enum: []", "schema.fields[3] (state).constraints.enum", "at least one"),
    ("itemType: string", "itemType: integer", "schema.fields[4] (tags).itemType", "only string"),
    ("name: since", "name: row", "schema.fields[5] (row).name", "kept for other things"),
    ("name: since", "name: xmin", "schema.fields[5] (xmin).name", "kept for other things"),
    ("name: since", "name: state", "schema.fields", "the field state stands twice"),
    ("OR price IS NULL", "OR cost IS NULL", "schema.rules[0].expression", "not cost"),
    ("OR price IS NULL", "OR (", "schema.rules[0].expression", "not an SQL condition"),
    ("state <> 'no' OR price IS NULL", "price", "schema.rules[0].expression", "true or false"),
    ("state <> 'no' OR price IS NULL", "sum(price) > 1", "schema.rules[0].expression", "for each record"),
    ("state <> 'no' OR price IS NULL", "1 = 1", "schema.rules[0].expression", "must name fields"),
    ("state <> 'no' OR price IS NULL", "since < '2024-01-01'", "schema.rules[0].expression", "fit the fields' types"),
    ("state <> 'no' OR price IS NULL", "tags = 'a'", "schema.rules[0].expression", "rules read neither lists nor"),
    ("state <> 'no' OR price IS NULL", "id IS NULL", "schema.rules[0].expression", "cannot read id"),
    ("field: price, expression", "field: cost, expression", "schema.rules[0].field", "cost is not a field"),
    ("code: no_price", "code: No", "schema.rules[0].code", "lower-case"),
]


@pytest.mark.parametrize(("part", "instead", "place", "message"), FAULTS)
def test_each_fault_is_named(tmp_path: Path, part: str, instead: str, place: str, message: str) -> None:
    """One fault in a sound descriptor is reported once, at its place, with what is allowed."""
    assert part in SOUND
    found = faults(tmp_path, SOUND.replace(part, instead, 1))
    assert [p for p, _ in found] == [place]
    assert message in found[0][1]


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Faults of structure and of meaning, in several files, come in one error."""
    broken = (
        SOUND.replace("type: number", "type: money").replace("uuid", "guid").replace("code: no_price", "kode: x").replace("unique", "uniq")
    )
    found = faults(tmp_path, broken, SOUND.replace("name: things", "name: others").replace("primaryKey: id", "primaryKey: nope"))
    assert [p for p, _ in found] == [
        "schema.fields[0].constraints.uniq",
        "schema.rules[0].kode",
        "schema.rules[0].code",
        "schema.fields[0] (id).type",
        "schema.fields[2] (price).type",
        "schema.primaryKey",
    ]


def child(name: str, parent: str, target: str = "id") -> str:
    key = f"foreignKeys: [{{fields: {parent}_id, reference: {{resource: {parent}, fields: {target}}}}}]"
    fields = f"[{{name: id, type: string, format: uuid}}, {{name: {parent}_id, type: string, format: uuid}}]"
    return f"name: {name}\nschema: {{primaryKey: id, {key}, fields: {fields}}}"


def test_references_are_resolved_parents_first(tmp_path: Path) -> None:
    """A reference may be given by the target's natural key, under the name made of both; parents come before children."""
    registry = load(tmp_path, child("parts", "things"), SOUND, child("bits", "parts"), child("folders", "folders"))
    assert registry.names.index("things") < registry.names.index("parts") < registry.names.index("bits")
    assert registry.get("parts").aliases == ("things_code",)
    assert registry.get("bits").aliases == ()
    assert registry.get("folders").references[0].resource == "folders"


def test_references_that_lead_nowhere(tmp_path: Path) -> None:
    """An unknown target, another field than its primary key, or a circle is named."""
    assert faults(tmp_path, child("parts", "things")) == [
        ("schema.foreignKeys[0].reference.resource", "there is no resource 'things'; there are parts")
    ]
    found = faults(tmp_path, child("parts", "things", "code"), SOUND)
    assert found == [("schema.foreignKeys[0].reference.fields", "must be the primary key of things, id, not code")]
    found = faults(tmp_path, child("a", "b"), child("b", "a"))
    assert [p for p, _ in found] == ["schema.foreignKeys"]
    assert "circle" in found[0][1]


def test_types_of_a_reference_agree(tmp_path: Path) -> None:
    """A text cannot refer to a UUID."""
    text = child("parts", "things").replace("things_id, type: string, format: uuid", "things_id, type: string")
    assert faults(tmp_path, text, SOUND) == [("schema.foreignKeys[0].fields", "things_id is a string, things.id a uuid")]


def test_names_and_tables_are_taken_once(tmp_path: Path) -> None:
    """A second resource of a name, or on another's table, is refused."""
    assert "declared in" in faults(tmp_path, SOUND, SOUND)[0][1]
    other = SOUND.replace("name: things", "name: others\ntable: things", 1)
    assert faults(tmp_path, SOUND, other) == [("table", "things belongs to things already")]


def test_names_that_would_collide(tmp_path: Path) -> None:
    """An alias, a canonical key and a child may not take a field's name."""
    taken = child("parts", "things").replace("fields: [", "fields: [{name: things_code, type: string}, ")
    assert "may not be a field" in faults(tmp_path, taken, SOUND)[0][1]
    keyed = SOUND.replace("naturalKey: code", "naturalKey: code\n  caseless: true").replace(
        "name: since, type: datetime, default: now()", "name: code_key"
    )
    assert faults(tmp_path, keyed) == [("schema.caseless", "code_key holds the canonical key and may not be a field")]
    owned = SOUND.replace("  rules:", "  children: [{field: tags, table: bits, parentColumn: x, fields: [{name: x}]}]\n  rules:")
    assert [p for p, _ in faults(tmp_path, owned)] == ["schema.children[0].field", "schema.children[0].parentColumn"]


def test_defaults_are_normalised(tmp_path: Path) -> None:
    """A boolean's default is true or false however it was written; a list's is a JSON array."""
    text = SOUND.replace("type: number, precision: 6, scale: 2, default: 1.5", 'type: boolean, default: "FALSE"').replace(
        "state <> 'no' OR price IS NULL", "state <> 'no' OR price"
    )
    things = load(tmp_path, text).get("things")
    assert (things.by_name["price"].default, things.by_name["tags"].default) == ("false", '["a"]')


@pytest.mark.parametrize(
    ("part", "instead", "place", "message"),
    [
        ("{name: a}", "{name: position, type: integer}", "fields[0] (position).name", "choose another name"),
        ("{name: a}", "{name: id}", "fields[0] (id).name", "choose another name"),
        ("{name: a}", "{name: x}", "parentColumn", "one of the child's fields"),
        ("{name: a}", "{name: a, default: b}", "fields[0] (a).default", "cannot have defaults"),
        ("{name: a}", "{name: a, type: datetime, default: now()}", "fields[0] (a).default", "cannot have defaults"),
        ("{name: a}", "{name: a, constraints: {unique: true}}", "fields[0] (a).constraints.unique", "cannot be unique"),
        ("parentColumn: x", "parentColumn: position", "parentColumn", "kept for other things"),
        ("parentColumn: x", "parentColumn: xmin", "parentColumn", "kept for other things"),
        ("table: bits", "table: " + "b" * 41, "table", "at most 40"),
    ],
)
def test_what_a_child_cannot_have(tmp_path: Path, part: str, instead: str, place: str, message: str) -> None:
    """The columns that every child's table has, long names, defaults and keys are refused."""
    owner = SOUND.replace("  rules:", "  children: [{field: bits, table: bits, parentColumn: x, fields: [{name: a}]}]\n  rules:")
    assert load(tmp_path, owner).get("things").children[0].table == "bits"
    assert part in owner
    found = faults(tmp_path, owner.replace(part, instead, 1))
    assert [p for p, _ in found] == [f"schema.children[0].{place}"]
    assert message in found[0][1]


def test_a_key_is_no_reference(tmp_path: Path) -> None:
    """A primary or natural key that refers to another record would be known too late to tell which records share it."""
    shared = child("parts", "things").replace("primaryKey: id", "primaryKey: things_id")
    assert faults(tmp_path, shared, SOUND) == [
        ("schema.foreignKeys[0].fields", "things_id is a key of parts itself and cannot refer to another record")
    ]


def test_a_reference_has_no_default(tmp_path: Path) -> None:
    """It would be inserted without being looked up."""
    plain = "{{name: {0}, type: string, constraints: {{required: true, maxLength: 9}}}}"
    target = f"name: kinds\nschema: {{primaryKey: code, fields: [{plain.format('code')}, {plain.format('label')}]}}"
    text = child("parts", "kinds", "code").replace("kinds_id, type: string, format: uuid", "kinds_id, type: string, default: a")
    assert faults(tmp_path, text, target) == [("schema.foreignKeys[0].fields", "kinds_id has a default, and a reference cannot have one")]


def test_a_text_as_primary_key_is_required(tmp_path: Path) -> None:
    """Only a uuid is generated for a record that lacks it."""
    text = "name: marks\nschema: {primaryKey: code, fields: [{name: code, constraints: {maxLength: 9}}, {name: a}]}"
    found = faults(tmp_path, text)
    assert [p for p, _ in found] == ["schema.primaryKey"]
    assert "must be required" in found[0][1]


def test_a_resource_is_more_than_its_key(tmp_path: Path) -> None:
    """A record that is nothing but its key has nothing to update."""
    text = "name: marks\nschema: {primaryKey: id, fields: [{name: id, type: string, format: uuid}]}"
    assert faults(tmp_path, text) == [("schema.fields", "needs a field beside the primary key id")]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, bytes that are no text and a list instead of a mapping are faults like others."""
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(InvalidResourceError) as caught:
        Registry.of(tmp_path, tmp_path / "missing.yaml")
    assert [f["message"].split(":")[0] for f in caught.value.details["faults"]] == [
        "cannot be read",
        "must be a mapping with name, schema",
        "cannot be read",
    ]


def test_builtin_resources_are_there_with_others(tmp_path: Path) -> None:
    """The shipped declarations load together with one's own, which may refer to them."""
    (tmp_path / "x.yaml").write_text(child("notes", "users"))
    registry = Registry.load(tmp_path)
    assert {"users", "articles", "comments", "products", "notes"} == set(registry.names)
    assert registry.get("notes").references[0].alias == "users_email"
    assert registry.names.index("users") < registry.names.index("articles") < registry.names.index("comments")
    assert [r.name for r in registry] == list(registry.names)


def test_an_unknown_resource_names_the_known_ones() -> None:
    """The error says what there is."""
    with pytest.raises(UnknownResourceError, match=r"there are .*users"):
        Registry.load().get("nope")


def test_patterns_hold_for_the_whole_text(tmp_path: Path) -> None:
    """Table Schema's patterns match the whole text, so they are anchored; alternatives stay together."""
    text = SOUND.replace("maxLength: 20", 'maxLength: 20, pattern: "a|b"')
    assert load(tmp_path, text).get("things").by_name["code"].pattern == "^(?:a|b)$"


def test_aliases_of_the_shipped_resources() -> None:
    """The names under which clients give references by natural key."""
    registry = Registry.load()
    assert registry.get("articles").aliases == ("author_email",)
    assert registry.get("comments").aliases == ("article_slug", "user_email")
    assert registry.get("products").natural_key is None
    assert registry.get("users").key_column == "email_key"
