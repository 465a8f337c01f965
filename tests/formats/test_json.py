"""NDJSON and JSON arrays: native values come out as they were written, and each way to be wrong has its verdict."""

import json
from pathlib import Path

import pytest

from penstock.errors import DuplicateColumnsError, InvalidOptionError, TruncatedFileError, UnknownFormatError
from penstock.formats.model import Format, ReadOptions
from tests.formats.support import Outcome, put, read, reader_of


def ndjson(folder: Path, *lines: str | bytes, options: ReadOptions | None = None) -> Outcome:
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    return read(put(folder, "a.ndjson", data), options)


def array(folder: Path, text: str | bytes, options: ReadOptions | None = None) -> Outcome:
    return read(put(folder, "a.json", text), options)


@pytest.mark.parametrize("number", ["9007199254740993", "1e400", "0.1", "12345678901234567890.12", "-0", "1.50", "1E+2", "5.0", "-0.000"])
@pytest.mark.parametrize("field", ["count", "price"])
def test_numbers_keep_their_digits(tmp_path: Path, field: str, number: str) -> None:
    """A JSON number is passed on digit for digit, alone in its column or among texts."""
    outcome = ndjson(
        tmp_path, f'{{"{field}":{number}}}', f'{{"{field}": {number} }}', f'{{"{field}":"{number}"}}', f'{{"{field}":null}}', "{}"
    )
    assert outcome.values(field) == [number, number, number, None, None]
    assert ndjson(tmp_path, f'{{"{field}":{number}}}').values(field) == [number]
    assert not outcome.broken
    assert not outcome.wrong


def test_booleans(tmp_path: Path) -> None:
    """true, false, 0, 1 and texts are passed on as they stand."""
    outcome = ndjson(tmp_path, *(f'{{"active":{value}}}' for value in ("true", "false", "0", "1", '"yes"', "null", '""')))
    assert outcome.values("active") == ["true", "false", "0", "1", "yes", None, ""]
    assert ndjson(tmp_path, '{"active":true}', '{"active":null}', "{}").values("active") == ["true", None, None]


def test_texts(tmp_path: Path) -> None:
    """Escapes are decoded, an empty text stays one, an escaped NUL passes."""
    outcome = ndjson(tmp_path, r'{"name":"a\u00e9\ud83d\ude00\n\"\/"}', '{"name":""}', r'{"name":"\u0000"}', '{"name":"\u202e"}')
    assert outcome.values("name") == ['aé😀\n"/', "", "\0", "\u202e"]


def test_lists_come_as_json(tmp_path: Path) -> None:
    """Lists and children are JSON text, as it stands in the file."""
    outcome = ndjson(tmp_path, '{"tags":["a", "b"],"parts":[{"name": "x"}]}', '{"tags":[],"parts":null}', "{}")
    assert outcome.values("tags") == ['["a", "b"]', "[]", None]
    assert outcome.values("parts") == ['[{"name": "x"}]', None, None]


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("name", "5", "a text"),
        ("name", "true", "a text"),
        ("name", '["x"]', "a text"),
        ("id", "5", "a text"),
        ("at", "20240101", "a text"),
        ("author_email", "{}", "a text"),
        ("count", "true", "a number"),
        ("price", "[1]", "a number"),
        ("count", '{"a":1}', "a number"),
        ("active", "[]", "true or false"),
        ("tags", '"a"', "a JSON array of texts"),
        ("tags", "1", "a JSON array of texts"),
        ("parts", '{"name":"x"}', "a JSON array of objects"),
    ],
)
def test_values_of_a_wrong_type(tmp_path: Path, field: str, value: str, detail: str) -> None:
    """A JSON type that does not fit is reported at its field, with what stood there; the record stays, with no value in that cell."""
    outcome = ndjson(tmp_path, '{"email":"a"}', f'{{"email":"b","{field}":{value}}}', '{"email":"c"}')
    assert [(p.row, p.kind.value, p.field, p.value, p.detail) for p in outcome.wrong] == [(2, "invalid", field, value, detail)]
    assert outcome.values("email") == ["a", "b", "c"]
    assert outcome.values(field)[1] is None
    assert not outcome.broken


@pytest.mark.parametrize(
    ("line", "kind", "detail"),
    [
        ('{"email":"x",}', "malformed_json", "trailing comma in object (byte 13)"),
        ('{"email":NaN}', "malformed_json", "NaN is not a JSON number"),
        ('{"count":-Infinity}', "malformed_json", "-Infinity is not a JSON number"),
        ('{"email":"x"', "malformed_json", "it ends before it is complete"),
        ('{"email":"\\ud800"}', "malformed_json", "half of a surrogate pair stands alone in an escape"),
        ('{"other":"\\udc00x"}', "malformed_json", "half of a surrogate pair stands alone in an escape"),
        ('{"email":"x","email":"y"}', "malformed_json", 'the key "email" stands in it more than once'),
        ('{"o":1,"email":"x","o":1}', "malformed_json", 'the key "o" stands in it more than once'),
        ('{"email" : "x", "\\u0065mail":"y"}', "malformed_json", 'the key "email" stands in it more than once'),
        ('{"email":"x"} {"email":"y"}', "malformed_json", "trailing characters (byte 15)"),
        ('{"email":01}', "malformed_json", "invalid number (byte 10)"),
        ("{'email':'x'}", "malformed_json", "object keys must be strings (byte 1)"),
        ("x", "malformed_json", "invalid character (byte 0)"),
        ("[]", "not_an_object", "an array"),
        ("5", "not_an_object", "a number"),
        ('"x"', "not_an_object", "a text"),
        ("null", "not_an_object", "null"),
        ("true", "not_an_object", "a boolean"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested_too_deep", "64"),
        ('{"email":"\xff"}'.encode("latin-1"), "invalid_encoding", "UTF-8 (at its byte 11)"),
        ('{"other":"\xff"}'.encode("latin-1"), "invalid_encoding", "UTF-8 (at its byte 11)"),
    ],
)
def test_records_that_cannot_be_read(tmp_path: Path, line: str | bytes, kind: str, detail: str) -> None:
    """The record is rejected with its reason; those around it land with their rows and lines."""
    outcome = ndjson(tmp_path, '{"email":"a"}', "", line, '{"email":"b"}')
    assert outcome.verdicts == [(2, kind, detail)]
    assert outcome.values("email") == ["a", "b"]
    assert outcome.lines == {1: 1, 2: 3, 3: 4}
    assert outcome.raw[2] == (line.encode() if isinstance(line, str) else line)
    in_array = array(tmp_path, b'[{"email":"a"},\n' + outcome.raw[2] + b',\n{"email":"b"}]')
    if kind != "malformed_json":
        assert in_array.verdicts == outcome.verdicts
    assert (in_array.kinds, in_array.values("email"), in_array.error) == ({2: kind}, ["a", "b"], None)
    assert in_array.lines == {1: 1, 2: 2, 3: 3}


def test_deepest_nesting_that_is_read(tmp_path: Path) -> None:
    """64 levels pass; brackets inside texts are no levels."""
    deep = '{"other":' + "[" * 63 + "]" * 63 + "}"
    outcome = ndjson(tmp_path, deep, '{"name":"' + "[{" * 100 + '"}', '{"name":"\\"' + "[" * 100 + '"}')
    assert not outcome.broken
    assert array(tmp_path, "[" + deep + ',{"name":"' + "[{" * 100 + '"}]').frame.height == 2


def test_brackets_by_the_thousand(tmp_path: Path) -> None:
    """100,000 brackets reach no parser, balanced or not, behind texts that would hide them from a plain count too."""
    deep = "[" * 100_000
    hiding = '{"o":' + '["]",' * 2000 + "1" + "]" * 2000 + "}"
    for text in (deep, deep + "]" * 100_000, hiding):
        outcome = ndjson(tmp_path, '{"email":"a"}', text, '{"email":"b"}')
        assert (outcome.kinds, outcome.values("email")) == ({2: "nested_too_deep"}, ["a", "b"])
    for text in (deep + "]" * 100_000, hiding):
        outcome = array(tmp_path, '[{"email":"a"},' + text + ',{"email":"b"}]')
        assert (outcome.kinds, outcome.values("email")) == ({2: "nested_too_deep"}, ["a", "b"])
    outcome = array(tmp_path, '[{"email":"a"},' + deep)
    assert outcome.values("email") == ["a"]
    assert isinstance(outcome.error, TruncatedFileError)


def test_repeated_keys_are_found_among_anything(tmp_path: Path) -> None:
    """Quotes before colons in texts, spaces before colons, nested keys and unknown keys neither hide nor fake a repeated key."""
    clean = [
        '{"email" : "a", "name":"\\":\\":"}',
        '{"email":"a","other":{"email":1,"x":{"email":"b"}}}',
        '{"email":"a","name":" :","parts":[{"name":"x","name":"y"}]}',
        '{"email":"a","name":"say \\"email\\": b"}',
        '{"em\\u0061il":"a"}',
    ]
    repeated = ['{"email" : "a", "email":"b"}', '{"name":"\\":","x":1,"x":2}', '{"email" :"a","other":{"k":1},"email" :"b"}']
    for filler in ([], ['{"email":"a"}'] * 100, ['{"email":"a","z":1}'] * 100):
        outcome = ndjson(tmp_path, *filler, *clean, *repeated, *filler)
        first = len(filler) + len(clean) + 1
        assert outcome.kinds == dict.fromkeys(range(first, first + 3), "malformed_json")


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    """Every key that the resource lacks is reported, also one that stands in a single record of many; `_errors` is not."""
    lines = ['{"email":"a","colour":"red"}'] * 500
    lines[317] = '{"email":"a","size":{"x":1},"_errors":"bad"}'
    outcome = ndjson(tmp_path, *lines)
    assert outcome.ignored == {"colour", "size"}


@pytest.mark.parametrize(
    ("written", "shown"),
    [("a\\u0000", "a\u2400"), ('a\\"b', 'a"b'), ("a\\\\b", "a\\b"), ("a\\n", "a\n"), ("a\\u001f", "a\x1f"), ('\\":\\"', '":"')],
)
def test_keys_that_no_field_can_have(tmp_path: Path, written: str, shown: str) -> None:
    """A key with a quote, a backslash or a control character is one more that the resource lacks, in every record or in few."""
    line = f'{{"email":"a","{written}":{{"email":1}},"name":"n"}}'
    assert json.loads(line).keys() - {"email", "name"} == {shown.replace("\u2400", "\0")}
    for filler in ([], ['{"email":"a","z":1}'] * 100):
        outcome = ndjson(tmp_path, *filler, line, *filler)
        assert outcome.rows[len(filler)] == {"row": len(filler) + 1, "email": "a", "name": "n"}
        assert outcome.ignored - {"z"} == {shown}
        assert not outcome.broken
    repeated = ndjson(tmp_path, line, f'{{"{written}":1,"email":"a","{written}":2}}')
    assert repeated.verdicts == [(2, "malformed_json", f'the key "{shown}" stands in it more than once')]


@pytest.mark.parametrize("key", ["a\0", 'a"', "a\\", "a\n", "\ud800"])
def test_keys_that_cannot_be_mapped(tmp_path: Path, key: str) -> None:
    """A mapping that names such a key is refused, since its field would stay empty without a word."""
    with pytest.raises(InvalidOptionError, match="not read") as caught:
        reader_of(put(tmp_path, "a.ndjson", "{}"), ReadOptions(mapping={key: "email"}))
    assert "\0" not in caught.value.message


def test_mapping_renames_keys(tmp_path: Path) -> None:
    """A mapped key fills its field, whose own name is then a key like any other unknown one."""
    options = ReadOptions(mapping={"e-mail": "email"})
    outcome = ndjson(tmp_path, '{"e-mail":"a","email":"b","name":"n"}', options=options)
    assert outcome.rows == [{"row": 1, "email": "a", "name": "n"}]
    assert outcome.ignored == {"email"}
    path = put(tmp_path, "a.ndjson", "{}")
    with pytest.raises(InvalidOptionError):
        reader_of(path, ReadOptions(mapping={"x": "nickname"}))
    with pytest.raises(DuplicateColumnsError):
        reader_of(path, ReadOptions(mapping={"x": "email", "y": "email"}))


def test_last_line_without_its_end(tmp_path: Path) -> None:
    """It is a record; cut off it is a malformed one, since nothing tells that NDJSON was cut."""
    assert ndjson(tmp_path, '{"email":"a"}', '{"email":"b"}').values("email") == ["a", "b"]
    outcome = ndjson(tmp_path, '{"email":"a"}', '{"email":"b')
    assert (outcome.kinds, outcome.error) == ({2: "malformed_json"}, None)


def test_json_file_that_is_ndjson(tmp_path: Path) -> None:
    """A .json file of one object per line is read as NDJSON, as its dialect says, a broken first line or not."""
    for first in ('{"email":"a"}', '{"email":"a",}', '{"email":'):
        outcome = array(tmp_path, f'\n {first}\n{{"email":"b"}}\n')
        assert outcome.dialect.format is Format.NDJSON
        assert outcome.values("email")[-1] == "b"


def test_json_file_of_something_else(tmp_path: Path) -> None:
    """A single object over many lines, a text or a number as the whole file are refused with what to do."""
    for text in (json.dumps({"data": [{"email": "a"}]}, indent=1), '"x"', "5", "email,name\na,b\n"):
        with pytest.raises(UnknownFormatError):
            array(tmp_path, text)


@pytest.mark.parametrize("chunk_bytes", [1, 16, 4096])
def test_array_that_is_cut_off(tmp_path: Path, chunk_bytes: int) -> None:
    """Whole elements are delivered, the one at the break is not, then the file is truncated."""
    whole = '[{"email":"a"},\n{"email":"b"},\n{"email":"c"}'
    for size in range(1, len(whole) + 1):
        outcome = array(tmp_path, whole[:size] + " \n"[: size % 3], ReadOptions(chunk_bytes=chunk_bytes))
        assert isinstance(outcome.error, TruncatedFileError)
        assert outcome.values("email") if outcome.ends else ["a", "b", "c"][: whole[:size].count("}")] == []
        assert len(outcome.raw) == whole[:size].count("}")


def test_empty_array(tmp_path: Path) -> None:
    """An array of nothing holds no records."""
    for text in ("[]", " [ \n ] \n"):
        outcome = array(tmp_path, text)
        assert (outcome.ends, outcome.error) == ([], None)


def test_commas_without_elements(tmp_path: Path) -> None:
    """Where nothing stands between commas, or behind the last, there is a record that is malformed."""
    outcome = array(tmp_path, '[{"email":"a"},,{"email":"b"},]')
    assert outcome.kinds == {2: "malformed_json", 4: "malformed_json"}
    assert outcome.values("email") == ["a", "b"]
    assert array(tmp_path, "[,]").kinds == {1: "malformed_json", 2: "malformed_json"}


@pytest.mark.parametrize("chunk_bytes", [1, 14, 4096])
def test_missing_comma(tmp_path: Path, chunk_bytes: int) -> None:
    """What stands between two commas is one record, though two objects stand there; closed or cut off, it is malformed as a whole."""
    text = '[{"email":"a"},\n{"email":"b"}\n{"email":"c"}'
    for end, error in (("]", None), (',{"email":"d"}]', None), ("", TruncatedFileError)):
        outcome = array(tmp_path, text + end, ReadOptions(chunk_bytes=chunk_bytes))
        assert outcome.kinds == {2: "malformed_json"}
        assert outcome.values("email")[0] == "a"
        assert type(outcome.error) is (error or type(None))


def test_text_behind_the_array(tmp_path: Path) -> None:
    """Anything but space behind the array is one rejected record, named by its line; going on behind it finds nothing."""
    outcome = array(tmp_path, '[{"email":"a"}]\n\n\n{"email":"b"}\n' + "x\n" * 3_000_000)
    assert outcome.verdicts == [(2, "malformed_json", "text behind the end of the array")]
    assert outcome.lines == {1: 1, 2: 4}
    assert outcome.raw[2].startswith(b'{"email":"b"}\nx')
    rest = read(tmp_path / "a.json", start=outcome.ends[-1])
    assert (rest.raw, rest.error) == ({}, None)


@pytest.mark.parametrize(
    "broken", ['{"email":"x"', '{"email":"x}', '{"email":["x"}', '{"email":"x"]}', '{"email":{"x":1}', '{"email":"x\\"}']
)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk_bytes", [16, 4096])
def test_missing_bracket_or_quote_costs_one_element(tmp_path: Path, broken: str, indent: int | None, chunk_bytes: int) -> None:
    """In an array of one element per line, or an indented one, an element whose end does not show ends before the next."""
    elements = [json.dumps({"email": f"u{n}", "parts": [{"name": "x"}]}, indent=indent).replace("\n", "\n  ") for n in range(6)]
    elements[2] = broken
    outcome = array(tmp_path, "[\n  " + ",\n  ".join(elements) + "\n]", ReadOptions(chunk_bytes=chunk_bytes))
    assert (outcome.kinds, outcome.error) == ({3: "malformed_json"}, None)
    assert outcome.values("email") == ["u0", "u1", "u3", "u4", "u5"]
    assert outcome.raw[3] == broken.encode()


def test_large_records(tmp_path: Path) -> None:
    """A record above the limit is rejected and passed, line or element; reading goes on behind it."""
    large = [json.dumps({"email": "]}," * 1000 + '"\\'}), json.dumps({"parts": [{"name": "x" * 10}] * 200}), json.dumps(["[" * 3000])]
    rows = [row for n, record in enumerate(large) for row in (f'{{"email":"u{n}"}}', record)]
    for size in (16, 1000, 1 << 20):
        options = ReadOptions(max_record_bytes=1000, chunk_bytes=size)
        for outcome in (ndjson(tmp_path, *rows, "{}", options=options), array(tmp_path, "[" + ",\n".join([*rows, "{}"]) + "]", options)):
            assert outcome.verdicts == [(row, "record_too_large", "1000") for row in (2, 4, 6)]
            assert outcome.values("email") == ["u0", "u1", "u2", None]
            assert outcome.lines == {row: row for row in range(1, 8)}


def test_limits_are_exact(tmp_path: Path) -> None:
    """A record of exactly the limit passes, one byte more does not, in chunks of any size."""
    line = '{"email":"xxxxx"}'
    for size in (1, 18, 100):
        for limit, kinds in ((len(line), {}), (len(line) - 1, {1: "record_too_large", 2: "record_too_large"})):
            options = ReadOptions(max_record_bytes=limit, chunk_bytes=size)
            assert ndjson(tmp_path, line + "\r", line + "\r\n", options=options).kinds == kinds
            assert array(tmp_path, f"[{line},\n{line}]", options).kinds == kinds


def test_some_broken_among_many(tmp_path: Path) -> None:
    """Two of a hundred lines broken: exactly they are rejected."""
    lines = [f'{{"email":"u{n}","count":{n}}}' for n in range(5000)]
    bad = set(range(7, 5000, 50))
    outcome = ndjson(tmp_path, *(line[:-1] if n in bad else line for n, line in enumerate(lines)), options=ReadOptions(chunk_bytes=10_000))
    assert outcome.kinds == dict.fromkeys((n + 1 for n in sorted(bad)), "malformed_json")
    assert outcome.values("count") == [str(n) for n in range(5000) if n not in bad]
