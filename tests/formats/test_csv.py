"""CSV: dialect, header, cells, and records that are not well-formed."""

from pathlib import Path

import pytest

from penstock.errors import (
    DuplicateColumnsError,
    EmptyFileError,
    InvalidOptionError,
    MissingColumnsError,
    TruncatedFileError,
    UnknownFormatError,
)
from penstock.formats.model import ReadOptions
from tests.formats.support import put, read, reader_of


def csv(folder: Path, text: bytes | str) -> Path:
    return put(folder, "a.csv", text)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_finds_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    """The delimiter is found although the others stand in cells, quoted and not."""
    others = "".join({",", ";", "\t", "|"} - {delimiter})
    text = f'email{delimiter}name\na@b.co{delimiter}"x{delimiter}y{others}"\nc@d.co{delimiter}{others}\n'
    outcome = read(csv(tmp_path, text))
    assert outcome.dialect.delimiter == delimiter
    assert outcome.values("name") == [f"x{delimiter}y{others}", others]


def test_delimiter_of_unknown_columns_is_the_consistent_one(tmp_path: Path) -> None:
    """With no known name in the header, the delimiter that every record has as often wins."""
    outcome = read(csv(tmp_path, "mail;note, long\na@b.co;x\nc@d.co;y, z, w\n"), ReadOptions(mapping={"mail": "email"}))
    assert outcome.dialect.delimiter == ";"


def test_declared_delimiter_wins(tmp_path: Path) -> None:
    """`delimiter` overrides what would be found; one that is no single ASCII character is refused."""
    path = csv(tmp_path, "email#name,x\na@b.co#n,1\n")
    outcome = read(path, ReadOptions(delimiter="#"))
    assert outcome.dialect.columns == ("email", "name,x")
    for wrong in ("", "ab", '"', "\n", "¦", "\0"):
        with pytest.raises(InvalidOptionError):
            reader_of(path, ReadOptions(delimiter=wrong))


def test_separator_line_of_excel(tmp_path: Path) -> None:
    """`sep=;` as the first line names the delimiter; it is neither header nor record, and counts as a line."""
    outcome = read(csv(tmp_path, 'sep=;\r\nemail;name\r\na@b.co;"x,y"\r\n'))
    assert outcome.rows == [{"row": 1, "email": "a@b.co", "name": "x,y"}]
    assert outcome.lines == {1: 3}


def test_tsv_by_name(tmp_path: Path) -> None:
    """A .tsv file is split at tabs."""
    outcome = read(put(tmp_path, "a.tsv", "email\tname,email\na,b\tc,d\n"))
    assert outcome.dialect.delimiter == "\t"


def test_header_is_trimmed(tmp_path: Path) -> None:
    """A byte order mark and spaces around names do not belong to them; quoted names may hold anything."""
    outcome = read(csv(tmp_path, b'\xef\xbb\xbf "email" , name ,"other\ncolumn"\na,b,c\n'.replace(b' "email" ', b'"email"')))
    assert outcome.dialect.columns == ("email", "name", "other\ncolumn")
    assert outcome.rows == [{"row": 1, "email": "a", "name": "b"}]
    assert outcome.lines == {1: 3}


def test_nul_in_the_header(tmp_path: Path) -> None:
    """NUL, which PostgreSQL cannot store, shows as its sign; columns are found by their place all the same."""
    outcome = read(put(tmp_path, "a.csv", b"co\0lour,email,na\0me,id\0\nred,a,n,1\n" + b"blue,b,m,2\n" * 20))
    assert outcome.dialect.columns == ("co\u2400lour", "email", "na\u2400me", "id\u2400")
    assert outcome.dialect.ignored == ("co\u2400lour", "na\u2400me", "id\u2400")
    assert outcome.rows[0] == {"row": 1, "email": "a"}
    mapped = read(put(tmp_path, "a.csv", b"email,na\0me\na,n\n" + b"b,m\n" * 20), ReadOptions(mapping={"na\u2400me": "name"}))
    assert mapped.rows[0] == {"row": 1, "email": "a", "name": "n"}
    with pytest.raises(MissingColumnsError) as caught:
        reader_of(put(tmp_path, "a.csv", b"e\0mail,name\na,n\n" + b"b,m\n" * 20))
    assert "e\u2400mail" in caught.value.message
    with pytest.raises(DuplicateColumnsError):
        reader_of(put(tmp_path, "a.csv", "email,a\0,a\u2400\n" + "a,b,c\n" * 20))
    with pytest.raises(InvalidOptionError) as refused:
        reader_of(put(tmp_path, "a.csv", "email\na\n"), ReadOptions(mapping={"x\0": "name"}))
    assert "\0" not in refused.value.message


def test_columns_that_the_resource_lacks_are_ignored(tmp_path: Path) -> None:
    """Unknown columns are listed; nameless ones and `_errors` are ignored without a word."""
    outcome = read(csv(tmp_path, "_errors,email,,colour,,author_email\nx,a@b.co,1,red,2,z@b.co\n"))
    assert outcome.dialect.ignored == ("colour",)
    assert outcome.rows == [{"row": 1, "email": "a@b.co", "author_email": "z@b.co"}]


@pytest.mark.parametrize(
    ("header", "mapping", "error"),
    [
        ("email,name,email", {}, DuplicateColumnsError),
        ("email,mail", {"mail": "email"}, DuplicateColumnsError),
        ("email,name", {"mail": "email"}, InvalidOptionError),
        ("email,name", {"name": "nickname"}, InvalidOptionError),
        ("name,id", {}, MissingColumnsError),
        ("foo,bar", {}, MissingColumnsError),
    ],
)
def test_header_that_cannot_be_matched(tmp_path: Path, header: str, mapping: dict[str, str], error: type[Exception]) -> None:
    """Repeated columns, two columns for one field, unknown names in a mapping and missing fields each have their error."""
    with pytest.raises(error):
        reader_of(csv(tmp_path, header + "\n1,2,3\n"), ReadOptions(mapping=mapping))


def test_missing_columns_say_what_was_found(tmp_path: Path) -> None:
    """The error names what is missing, what is there, and the column that was probably meant; nothing is matched by guess."""
    with pytest.raises(MissingColumnsError) as caught:
        reader_of(csv(tmp_path, "E-Mail,name\na,b\n"))
    assert caught.value.details == {"missing": ["email"], "found": ["E-Mail", "name"], "near": {"email": "E-Mail"}}
    assert "E-Mail" in caught.value.message


def test_partial_needs_only_a_key(tmp_path: Path) -> None:
    """An update needs the primary or the natural key and nothing else."""
    assert reader_of(csv(tmp_path, "id,name\n"), partial=True).dialect.columns == ("id", "name")
    with pytest.raises(MissingColumnsError) as caught:
        reader_of(csv(tmp_path, "name\n"), partial=True)
    assert caught.value.details["missing"] == ["id or email"]


def test_mapping_renames(tmp_path: Path) -> None:
    """A mapped column fills its field."""
    outcome = read(csv(tmp_path, "mail,Full Name\na@b.co,Ann\n"), ReadOptions(mapping={"mail": "email", "Full Name": "name"}))
    assert outcome.rows == [{"row": 1, "email": "a@b.co", "name": "Ann"}]


def test_header_alone_is_no_record(tmp_path: Path) -> None:
    """A file of a header and blank lines holds no records and is no error."""
    for text in ("email,name", "email,name\n", "\n\nemail,name\r\n\r\n\n"):
        outcome = read(csv(tmp_path, text))
        assert (outcome.ends, outcome.error) == ([], None)


@pytest.mark.parametrize("text", ["", " \r\n\t\n", "\n\n", "sep=;\n"])
def test_empty_file(tmp_path: Path, text: str) -> None:
    """Nothing, or nothing but space, is an empty file."""
    with pytest.raises(EmptyFileError):
        reader_of(csv(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "error"),
    [('email,"na"me\n', UnknownFormatError), ('email,"name\na,b\n', TruncatedFileError), (b"email,na\xefme\n", UnknownFormatError)],
)
def test_header_that_is_not_well_formed(tmp_path: Path, text: str | bytes, error: type[Exception]) -> None:
    """Bad quoting, an open quote or bad bytes in the header stop the file, since its columns cannot be told."""
    with pytest.raises(error):
        reader_of(csv(tmp_path, text))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    """LF, CRLF and CR alone end records; blank lines are no records but lines."""
    outcome = read(csv(tmp_path, end.join(["email,name", "a,1", "", "", '"b","x' + end + 'y"', "c,3"])))
    assert outcome.values("name") == ["1", f"x{end}y", "3"]
    assert outcome.lines == {1: 2, 2: 5, 3: 7}
    assert outcome.dialect.line_end == end


def test_mixed_line_ends(tmp_path: Path) -> None:
    """A bare CR ends a record in a file of any line ends, and lines are counted as an editor shows them."""
    outcome = read(csv(tmp_path, "email,name\na,1\rb,2\r\n\rc,3\n\n\r\nd,4"))
    assert outcome.values("email") == ["a", "b", "c", "d"]
    assert list(outcome.lines.values()) == [2, 3, 5, 8]


def test_ragged_rows(tmp_path: Path) -> None:
    """Too few and too many cells are rejected with their numbers; nothing is padded, cut or merged."""
    outcome = read(csv(tmp_path, 'email,name\na,1\nb\nc,3,x\n"d\n",4\n"e\nf"\n,\ng,7\n'))
    assert outcome.verdicts == [
        (2, "malformed_row", "expected 2 cells, found 1"),
        (3, "malformed_row", "expected 2 cells, found 3"),
        (5, "malformed_row", "expected 2 cells, found 1"),
    ]
    assert outcome.frame["row"].to_list() == [1, 4, 6, 7]
    assert outcome.lines[5] == 7
    assert outcome.raw[5] == b'"e\nf"'
    assert outcome.values("email") == ["a", "d\n", None, "g"]


def test_null_values(tmp_path: Path) -> None:
    """Unquoted cells among the null values are null; quoted they are text, and so is any other empty cell."""
    path = csv(tmp_path, 'email,name\na,\nb,""\nNA,"NA"\n')
    assert read(path).values("name") == [None, "", "NA"]
    outcome = read(path, ReadOptions(null_values=("NA", "-")))
    assert outcome.values("name") == ["", "", "NA"]
    assert outcome.values("email") == ["a", "b", None]
    assert read(path, ReadOptions(null_values=())).values("name") == ["", "", "NA"]


def test_text_is_never_interpreted(tmp_path: Path) -> None:
    r"""Leading zeros, spaces, `\.`, NUL, controls and bidirectional marks pass as they stand."""
    cells = ["007", " x ", "\\.", "a\0b", "\u202eabc", "1e400", "=1+1", "nan", "null"]
    outcome = read(csv(tmp_path, "email,name\n" + "".join(f"a,{cell}\n" for cell in cells)))
    assert outcome.values("name") == cells


STRAY = ['a"b,1', '"a"b,1', 'a,"b', 'a,b"', '"a,1', '"a""b"c,1', 'a,"b" ', ' "a",1', '"a"",1']


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("place", [0, 1, 7, 8])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_stray_quote_costs_one_record(tmp_path: Path, stray: str, place: int, quoted: bool) -> None:
    """Wherever a stray quote stands, among plain or quoted cells, its record is rejected and all others land with their lines."""
    rows = [f'"u{n}","name {n}"' if quoted else f"u{n},name {n}" for n in range(8)]
    rows.insert(place, stray)
    rows.append('"last","one"')  # without a later quote an opening one is a cell that never ends
    outcome = read(csv(tmp_path, "email,name\n" + "\n".join(rows) + "\n"))
    assert outcome.error is None
    assert outcome.kinds == {place + 1: "malformed_row"}
    assert outcome.raw[place + 1] == stray.encode()
    assert outcome.values("email") == [*(f"u{n}" for n in range(8)), "last"]
    assert list(outcome.lines.values()) == list(range(2, 12))


def test_many_stray_quotes(tmp_path: Path) -> None:
    """One bad record in fifty, in small chunks: each costs itself."""
    good = [f'u{n},"a, ""b"" {n}"' for n in range(2000)]
    rows = [STRAY[n // 50 % len(STRAY)] if n % 50 == 7 else row for n, row in enumerate(good)]
    outcome = read(csv(tmp_path, "email,name\n" + "\n".join(rows) + "\n"), ReadOptions(chunk_bytes=997))
    assert outcome.kinds == dict.fromkeys(range(8, 2000, 50), "malformed_row")
    assert outcome.values("email") == [f"u{n}" for n in range(2000) if n % 50 != 7]
    assert list(outcome.lines.values()) == list(range(2, 2002))


def test_open_quote_at_the_end(tmp_path: Path) -> None:
    """A quoted cell that never ends: all rows before it are delivered, then the file is truncated, at that line."""
    for chunk_bytes in (10, 4096):
        outcome = read(csv(tmp_path, 'email,name\na,1\nb,"2\nc,3\nd,4\n'), ReadOptions(chunk_bytes=chunk_bytes))
        assert outcome.values("email") == ["a"]
        assert isinstance(outcome.error, TruncatedFileError)
        assert outcome.error.details == {"line": 3, "row": 2}


def test_bad_bytes_cost_one_record(tmp_path: Path) -> None:
    """A record with bytes that are no UTF-8 is rejected, in a column that nobody asked for too; its neighbours land."""
    outcome = read(csv(tmp_path, b"email,name,x\na,1,\nb,\xe9t\xe9,\nc,3,\xff\nd,4,\n"))
    assert outcome.verdicts == [(2, "invalid_encoding", "UTF-8 (at its byte 3)"), (3, "invalid_encoding", "UTF-8 (at its byte 5)")]
    assert outcome.values("email") == ["a", "d"]
    assert outcome.raw[2] == b"b,\xe9t\xe9,"


def test_large_records(tmp_path: Path) -> None:
    """A record above the limit is rejected and passed, whatever it is made of, and reading goes on behind it."""
    large = [b"x" * 5000, b'"' + b"y\n" * 2500 + b'"', b'"' + b'""' * 2500 + b'",z', b"x" * 3000 + b'"' + b"x" * 2000]
    for size in (64, 4096, 1 << 20):
        body = b"".join(b"a%d,1\n%s\n" % (number, record) for number, record in enumerate(large))
        outcome = read(csv(tmp_path, b"email,name\n" + body + b"z,1\n"), ReadOptions(max_record_bytes=1000, chunk_bytes=size))
        assert outcome.verdicts == [(row, "record_too_large", "1000") for row in (2, 4, 6, 8)]
        assert outcome.values("email") == ["a0", "a1", "a2", "a3", "z"]
        assert outcome.lines[9] == 2510


def test_a_stray_quote_far_from_the_next(tmp_path: Path) -> None:
    """Also where more than a record's limit lies between a stray quote and the next one, only its own record is lost."""
    rows = [b"u%d,1" % n for n in range(500)]
    rows[3] = b'u3,"1'
    rows.append(b'"v","2"')
    for size in (64, 4096):
        outcome = read(csv(tmp_path, b"email,name\n" + b"\n".join(rows)), ReadOptions(max_record_bytes=100, chunk_bytes=size))
        assert outcome.kinds == {4: "malformed_row"}
        assert outcome.frame.height == 500
        assert outcome.raw[4] == b'u3,"1'


def test_wide_and_long(tmp_path: Path) -> None:
    """10,000 columns and a cell of 200 kB are nothing special."""
    names = ["email", *(f"c{n}" for n in range(9_998)), "name"]
    rows = [",".join([f"u{n}", *["x"] * 9_998, "y" * 200_000]) for n in range(3)]
    outcome = read(csv(tmp_path, "\n".join([",".join(names), *rows])))
    assert [len(name or "") for name in outcome.values("name")] == [200_000] * 3
    assert len(outcome.dialect.ignored) == 9_998
