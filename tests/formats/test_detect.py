"""Which format a file has, in which compression and encoding, and what is refused."""

import gzip
import io
import zipfile
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from penstock.errors import EmptyFileError, InvalidOptionError, TruncatedFileError, UnknownFormatError
from penstock.formats import open_reader
from penstock.formats.model import Compression, Dialect, Format, Position, ReadOptions
from penstock.sources import open_source
from tests.formats.support import NOTES, drain, put, read, reader_of

CSV, NDJSON, JSON = b"email,name\na@b.co,\xc3\xa9\n", b'{"email":"a@b.co","name":"\xc3\xa9"}\n', b'[{"email":"a@b.co","name":"\xc3\xa9"}]'


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", CSV)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", CSV, Format.CSV),
        ("a.TSV", CSV, Format.CSV),
        ("a.ndjson", NDJSON, Format.NDJSON),
        ("a.jsonl", NDJSON, Format.NDJSON),
        ("a.json", JSON, Format.JSON),
        ("a.json", NDJSON, Format.NDJSON),
        ("a", CSV, Format.CSV),
        ("a.txt", b"\n " + NDJSON, Format.NDJSON),
        ("a.bin", b" \n" + JSON, Format.JSON),
    ],
)
@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".gz", zstandard.compress)]
)
def test_format(tmp_path: Path, name: str, data: bytes, expected: Format, ending: str, pack: type) -> None:
    """The name tells the format, else the first bytes; the first bytes alone tell the compression."""
    outcome = read(put(tmp_path, name + ending, pack(data)))
    assert outcome.dialect.format is expected
    assert outcome.dialect.compression is {bytes: Compression.NONE, gzip.compress: Compression.GZIP}.get(pack, Compression.ZSTD)
    assert outcome.rows == [{"row": 1, "email": "a@b.co", "name": "é"}]


def test_parquet_by_its_bytes(tmp_path: Path) -> None:
    """Parquet is known without its name; a name or an option that says otherwise is not followed in silence."""
    parquet.write_table(pa.table({"email": ["a"]}), tmp_path / "a")
    assert reader_of(tmp_path / "a").dialect.format is Format.PARQUET
    (tmp_path / "a").rename(tmp_path / "a.csv")
    with pytest.raises(UnknownFormatError, match="is a Parquet file"):
        reader_of(tmp_path / "a.csv")
    assert reader_of(tmp_path / "a.csv", ReadOptions(format=Format.PARQUET)).dialect.format is Format.PARQUET


def test_option_before_name(tmp_path: Path) -> None:
    """The declared format wins over the name."""
    path = put(tmp_path, "a.csv", NDJSON)
    assert reader_of(path, ReadOptions(format=Format.NDJSON)).dialect.format is Format.NDJSON


@pytest.mark.parametrize(
    "data",
    [
        zipped(),
        b"%PDF-1.7\n",
        b"\xd0\xcf\x11\xe0" + bytes(600),
        bytes(range(256)) * 10,
        bytes(100),
        gzip.compress(gzip.compress(CSV)),
        b"BZh91AY",
        CSV.decode().encode("utf-16-le"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a"])
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, name: str) -> None:
    """Archives, documents, binary data and UTF-16 without its mark are refused, with what is accepted."""
    with pytest.raises(UnknownFormatError, match="accepted are CSV, NDJSON"):
        reader_of(put(tmp_path, name, data))


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n  \t\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf\n", gzip.compress(b""), zstandard.compress(b" \n" * 100_000)],
)
@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.json", "a.parquet", "a"])
def test_empty_files(tmp_path: Path, data: bytes, name: str) -> None:
    """Nothing, or nothing but space, is an empty file in any format, compression and encoding."""
    with pytest.raises((EmptyFileError, UnknownFormatError)) as caught:
        reader_of(put(tmp_path, name, data))
    assert caught.type is EmptyFileError or (name == "a.parquet" and data)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le+bom", "utf-16-be+bom", "utf-32-be+bom"])
@pytest.mark.parametrize("data", [CSV, NDJSON, JSON])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_byte_order_marks(tmp_path: Path, encoding: str, data: bytes, pack: type) -> None:
    """A byte order mark tells UTF-8, UTF-16 and UTF-32, in either order of bytes."""
    codec, _, mark = encoding.partition("+")
    text = ("\ufeff" if mark else "") + data.decode()
    outcome = read(put(tmp_path, "a", pack(text.encode(codec))))
    assert outcome.rows == [{"row": 1, "email": "a@b.co", "name": "é"}]
    assert outcome.lines[1] == (2 if data is CSV else 1)


@pytest.mark.parametrize(
    ("encoding", "name"), [("latin-1", "é"), ("cp1252", "€"), ("shift_jis", "日本"), ("utf-16-be", "日"), ("cp037", "é"), ("ascii", "e")]
)
def test_declared_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    """Text in a declared encoding is decoded, whatever its bytes look like."""
    outcome = read(put(tmp_path, "a.csv", f"email,name\na,{name}\n".encode(encoding)), ReadOptions(encoding=encoding))
    assert outcome.rows == [{"row": 1, "email": "a", "name": name}]
    assert Dialect.__struct_fields__  # the dialect is stored; it must survive the way through JSON
    assert msgspec.json.decode(msgspec.json.encode(outcome.dialect), type=Dialect) == outcome.dialect


@pytest.mark.parametrize(
    ("encoding", "data", "kinds"),
    [
        ("shift_jis", "email,name\na,日\nb,".encode("shift_jis") + b"\x81\xff" + "\nc,本\n".encode("shift_jis"), {2}),
        ("ascii", b"email,name\na,\xe9\nb,x\n", {1}),
        ("cp1252", b"email,name\na,\x81\nb,x\n", {1}),
        ("utf-16-le", "email,name\na,\ud800x\nb,y\n".encode("utf-16-le", "surrogatepass"), {1}),
        ("utf-16-le", "email,name\na,x\nb,y".encode("utf-16-le") + b"\x00", {2}),
    ],
)
def test_what_cannot_be_decoded_costs_one_record(tmp_path: Path, encoding: str, data: bytes, kinds: set[int]) -> None:
    """Bytes that the declared encoding does not have reject their record, and are never replaced by a letter."""
    outcome = read(put(tmp_path, "a.csv", data), ReadOptions(encoding=encoding))
    assert outcome.kinds == dict.fromkeys(kinds, "invalid_encoding")
    assert (outcome.broken[0].detail or "").startswith(encoding.upper())
    assert outcome.frame.height + len(kinds) == len(outcome.raw)


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "rot13", "unicode_escape", "idna", "", "utf-8\0"])
def test_unknown_encodings(tmp_path: Path, encoding: str) -> None:
    """A name that is no text encoding is refused as an option."""
    with pytest.raises(InvalidOptionError):
        reader_of(put(tmp_path, "a.csv", CSV), ReadOptions(encoding=encoding))


def test_mark_against_declaration(tmp_path: Path) -> None:
    """A byte order mark that contradicts the declared encoding is not decoded into rubbish."""
    with pytest.raises(InvalidOptionError):
        reader_of(put(tmp_path, "a.csv", b"\xef\xbb\xbf" + CSV), ReadOptions(encoding="latin-1"))
    assert reader_of(put(tmp_path, "a.csv", b"\xef\xbb\xbf" + CSV), ReadOptions(encoding="UTF8")).dialect.encoding == "utf-8"


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.json"])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_cut_off_streams(tmp_path: Path, name: str, pack: type) -> None:
    """Every whole record before the break of a compressed stream is delivered, the one at the break is not, then the file is truncated."""
    rows = [f"u{n * 7919 % 9973}x{n}" for n in range(40_000)]
    texts = {
        "a.csv": "email\n" + "".join(f"{row}\n" for row in rows),
        "a.ndjson": "".join(f'{{"email":"{row}"}}\n' for row in rows),
        "a.json": "[" + ",\n".join(f'{{"email":"{row}"}}' for row in rows) + "]",
    }
    packed = pack(texts[name].encode())
    for cut in (len(packed) - 1, len(packed) - 8, len(packed) * 2 // 3):
        outcome = read(put(tmp_path, name, packed[:cut]))
        assert isinstance(outcome.error, TruncatedFileError)
        found = outcome.values("email") if outcome.ends else []
        assert found == rows[: len(found)]
        assert not outcome.broken
        assert len(found) >= (39_990 if pack is gzip.compress and cut >= len(packed) - 8 else 15_000)


@pytest.mark.parametrize(("name", "data"), [("a.csv", CSV), ("a.ndjson", NDJSON), ("a.json", JSON)])
def test_a_stored_dialect_is_followed(tmp_path: Path, name: str, data: bytes) -> None:
    """With a dialect nothing is found out anew: the reader does not even open the file until it is asked for chunks."""
    path = put(tmp_path, name, data)
    dialect = msgspec.json.decode(msgspec.json.encode(reader_of(path).dialect), type=Dialect)
    source = open_source(path)
    reader = open_reader(source, NOTES, ReadOptions(), dialect)
    assert source.position() == 0
    assert drain(reader, Position()).rows == [{"row": 1, "email": "a@b.co", "name": "é"}]
    assert source.position() == source.size


@pytest.mark.parametrize("option", ["chunk_bytes", "max_record_bytes"])
def test_sizes_must_be_positive(tmp_path: Path, option: str) -> None:
    """A limit of nothing is refused."""
    with pytest.raises(InvalidOptionError):
        reader_of(put(tmp_path, "a.csv", CSV), msgspec.structs.replace(ReadOptions(), **{option: 0}))
