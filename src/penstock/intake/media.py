"""Which bodies are files, by their Content-Type: a table, nothing is guessed."""

import msgspec
from multipart import parse_options_header

from penstock.errors import UnsupportedMediaTypeError

MULTIPART, JSON = "multipart/form-data", "application/json"
# Content-Type -> how the file would be called; the ending tells the format, and without one the first bytes do.
RAW_TYPES = {
    "text/csv": "upload.csv",
    "application/csv": "upload.csv",
    "text/tab-separated-values": "upload.tsv",
    "application/x-ndjson": "upload.ndjson",
    "application/ndjson": "upload.ndjson",
    "application/jsonl": "upload.ndjson",
    "application/x-jsonlines": "upload.ndjson",
    "application/vnd.apache.parquet": "upload.parquet",
    "application/octet-stream": "upload",
    "application/gzip": "upload",
    "application/x-gzip": "upload",
    "application/zstd": "upload",
}
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "zstd")


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """`name`: what a raw file would be called; None where the body is a form or a JSON request."""

    type: str
    name: str | None = None
    charset: str | None = None


def is_json(content_type: str | None) -> bool:
    return bool(parse_options_header(content_type or "")[0] == JSON)


def media_of(content_type: str | None, content_encoding: str | None, *, format_given: str | None) -> Media:
    """`format_given`: with `format=json` in the query a JSON body is the file itself. Raises UnsupportedMediaTypeError."""
    kind, parameters = parse_options_header(content_type or "")
    encoding = (content_encoding or "").strip().lower()
    if encoding not in _ENCODINGS or (encoding not in ("", "identity") and kind in (MULTIPART, JSON) and format_given is None):
        raise UnsupportedMediaTypeError(
            f"Content-Encoding {encoding[:50]!r} is not taken here. A raw file may be compressed with gzip or zstd.",
            content_encoding=encoding[:50],
        )
    if kind == JSON and format_given is not None:
        return Media(type=kind, name="upload.json", charset=parameters.get("charset"))
    if kind in (MULTIPART, JSON):
        return Media(type=kind)
    if (name := RAW_TYPES.get(kind)) is not None:
        return Media(type=kind, name=name, charset=parameters.get("charset"))
    allowed = [MULTIPART, JSON, *RAW_TYPES]
    given = f"not {kind[:100]!r}" if kind else "and there is none"
    raise UnsupportedMediaTypeError(f"Content-Type must be one of {', '.join(allowed)}, {given}.", allowed=allowed)
