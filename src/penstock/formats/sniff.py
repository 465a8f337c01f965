"""What kind of file begins with these bytes."""

from collections.abc import Iterator

from penstock.errors import UnknownFormatError
from penstock.formats.model import Format

ACCEPTED = "CSV, NDJSON, a JSON array or Parquet, each plain or compressed with gzip or zstd"
PARQUET_MAGIC = b"PAR1"
_PARQUET_HEADS = (b"PAR1\x15", b"PAR1\x19", b"PAR1\x2c")  # what follows in a Parquet file is Thrift; in a text it is a letter
_ENDINGS = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".json": Format.JSON,
    ".parquet": Format.PARQUET,
}
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or an Excel or OpenDocument file; unpack it, or save the sheet as CSV"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save it as CSV"),
    (b"%PDF", "a PDF"),
    (b"BZh", "compressed with bzip2; use gzip or zstd"),
    (b"\xfd7zXZ", "compressed with xz; use gzip or zstd"),
    (b"\x1f\x8b", "compressed twice; unpack it once"),
    (b"\x28\xb5\x2f\xfd", "compressed twice; unpack it once"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"Obj\x01", "an Avro file"),
    (b"ARROW1", "an Arrow file; save it as Parquet"),
    (b"PARE", "an encrypted Parquet file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b")) + b"\x7f"
_MOST_CONTROLS = 0.1  # of the first bytes; a text with a stray NUL has fewer, UTF-16 without its mark has half


def unknown(what: str) -> UnknownFormatError:
    return UnknownFormatError(f"{what}; accepted are {ACCEPTED}", accepted=[*Format])


def format_of_name(name: str) -> Format | None:
    lower = name.lower()
    for compressed in (".gz", ".gzip", ".zst", ".zstd"):
        lower = lower.removesuffix(compressed)
    return next((found for ending, found in _ENDINGS.items() if lower.endswith(ending)), None)


def is_tsv(name: str) -> bool:
    return ".tsv" in name.lower()[-8:]


def is_parquet(head: bytes) -> bool:
    return head.startswith(_PARQUET_HEADS)


def refuse_foreign(head: bytes, name: str) -> None:
    """`head`: the first bytes, decompressed but not decoded. Raises UnknownFormatError for what is no text and no Parquet."""
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise unknown(f"{name} is {what}")


def refuse_binary(text: bytes, name: str) -> None:
    """`text`: the first bytes, decoded."""
    controls = len(text) - len(text.translate(None, _CONTROLS))
    undecodable = text.decode("utf-8", "replace").count("\ufffd")
    if controls > _MOST_CONTROLS * len(text) or undecodable > _MOST_CONTROLS * len(text):
        at = next((fault.start for fault in _faults(text)), text.find(b"\0"))
        raise unknown(
            f"{name} is not UTF-8 text, from byte {at} on. If it is text in another encoding, give it: encoding=cp1252, latin-1, "
            "shift_jis, utf-16-le (a UTF-16 file without a byte order mark)"
        )


def _faults(text: bytes) -> Iterator[UnicodeDecodeError]:
    try:
        text.decode()
    except UnicodeDecodeError as fault:
        yield fault
