"""What an export is asked for: which records, which fields, in what form. It is stored with a queued job as it stands here."""

from enum import StrEnum

import msgspec

from penstock.formats.model import Compression, Format


class Operator(StrEnum):
    """How a field is compared. `eq` needs no word: `role=admin`."""

    EQ = "eq"
    NE = "ne"  # everything that `eq` leaves out, records without a value too
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    LIKE = "like"  # SQL's: % is any text, _ any character; with case
    IS_NULL = "is_null"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One filter. `name` is a field, or a filter that the resource declares; all conditions of an export must hold.

    `values` are in canonical text, checked already: one, but for `in` any number from 1; for `is_null` "true" or "false".
    """

    name: str
    operator: Operator
    values: tuple[str, ...]


class ExportWishes(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request: made by `penstock.exports.wishes`, which knows the resource."""

    resource: str
    format: Format = Format.NDJSON
    fields: tuple[str, ...]  # fields and children in the order of the columns; never empty
    conditions: tuple[Condition, ...] = ()
    compression: Compression = Compression.NONE
    spreadsheet: bool = False
