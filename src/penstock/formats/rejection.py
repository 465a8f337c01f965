"""A record that was rejected while its file was cut, as the parsers of all formats give it."""

import polars as pl

from penstock.formats.model import Parsed, RawRecord, RejectedChunk
from penstock.resources.problems import Problem


def rejected(chunk: RejectedChunk, schema: pl.Schema) -> Parsed:
    """No row in the frame, one problem."""
    row, line = chunk.start.row, chunk.start.line or None
    return Parsed(
        first_row=row,
        records=1,
        frame=schema.to_frame(),
        broken=[Problem(row=row, kind=chunk.kind, detail=chunk.detail)],
        wrong=[],
        locate=lambda rows: [RawRecord(row=row, line=line, raw=chunk.data) for _ in rows],
    )
