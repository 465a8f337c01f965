"""The closed catalogue of what can be wrong with a record.

A problem travels as a row of columns (`PROBLEM_COLUMNS`) from where it is found to where it is reported and becomes words only there.
Source of the shape: API.md, "Error records"; the idea of a closed catalogue with a template each is frictionless-py's
(`frictionless/errors`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import polars as pl

from penstock.resources.model import Resource

PROBLEM_COLUMNS = pl.Schema(
    {
        "row": pl.Int64,  # the record's number, from 1
        "kind": pl.String,  # a `Kind`
        "field": pl.String,  # the resource's field, `addresses[0].street` inside a child; null where the record as a whole is at fault
        "value": pl.String,  # what stood there, as read; null where nothing did
        "detail": pl.String,  # the limit, the allowed values, the rule's code: whatever the template asks for
    }
)


class ProblemType(StrEnum):
    PARSE = "PARSE_ERROR"
    VALIDATION = "VALIDATION_ERROR"
    DEPENDENCY = "DEPENDENCY_ERROR"
    CONFLICT = "CONFLICT_ERROR"


class Kind(StrEnum):
    MALFORMED_ROW = "malformed_row"
    MALFORMED_JSON = "malformed_json"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_ENCODING = "invalid_encoding"
    RECORD_TOO_LARGE = "record_too_large"
    NESTED_TOO_DEEP = "nested_too_deep"
    REQUIRED = "required"
    INVALID = "invalid"
    INVALID_ENUM = "invalid_enum"
    INVALID_FORMAT = "invalid_format"
    TOO_LONG = "too_long"
    TOO_SHORT = "too_short"
    OUT_OF_RANGE = "out_of_range"
    TOO_MANY_WORDS = "too_many_words"
    RULE = "rule"
    DANGLING = "dangling"
    DISAGREEING = "disagreeing"
    DUPLICATE = "duplicate"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Template:
    type: ProblemType
    code: str  # {field} is the last name of the field's path; {detail} as in PROBLEM_COLUMNS
    message: str


CATALOGUE: dict[Kind, Template] = {
    Kind.MALFORMED_ROW: Template(ProblemType.PARSE, "malformed_row", "the row is not well-formed: {detail}"),
    Kind.MALFORMED_JSON: Template(ProblemType.PARSE, "malformed_json", "the record is not valid JSON: {detail}"),
    Kind.NOT_AN_OBJECT: Template(ProblemType.PARSE, "not_an_object", "the record must be a JSON object, not {detail}"),
    Kind.INVALID_ENCODING: Template(ProblemType.PARSE, "invalid_encoding", "the record is not valid {detail}"),
    Kind.RECORD_TOO_LARGE: Template(ProblemType.PARSE, "record_too_large", "the record is larger than {detail} bytes"),
    Kind.NESTED_TOO_DEEP: Template(ProblemType.PARSE, "nested_too_deep", "the record is nested deeper than {detail} levels"),
    Kind.REQUIRED: Template(ProblemType.VALIDATION, "{field}_required", "{field} is required"),
    Kind.INVALID: Template(ProblemType.VALIDATION, "invalid_{field}", "{field} must be {detail}"),
    Kind.INVALID_ENUM: Template(ProblemType.VALIDATION, "invalid_{field}", "{field} must be one of {detail}"),
    Kind.INVALID_FORMAT: Template(ProblemType.VALIDATION, "invalid_{field}_format", "{field} must be {detail}"),
    Kind.TOO_LONG: Template(ProblemType.VALIDATION, "{field}_too_long", "{field} must have at most {detail} characters"),
    Kind.TOO_SHORT: Template(ProblemType.VALIDATION, "{field}_too_short", "{field} must have at least {detail} characters"),
    Kind.OUT_OF_RANGE: Template(ProblemType.VALIDATION, "{field}_out_of_range", "{field} must be {detail}"),
    Kind.TOO_MANY_WORDS: Template(ProblemType.VALIDATION, "{field}_exceeds_{detail}_words", "{field} must have at most {detail} words"),
    Kind.RULE: Template(ProblemType.VALIDATION, "{detail}", "{message}"),
    Kind.DANGLING: Template(ProblemType.DEPENDENCY, "invalid_{detail}", "{field} refers to a record that does not exist"),
    Kind.DISAGREEING: Template(ProblemType.DEPENDENCY, "invalid_{detail}", "{field} and {detail} refer to different records"),
    Kind.DUPLICATE: Template(ProblemType.CONFLICT, "duplicate_{field}", "another record has this {field} already"),
    Kind.NOT_FOUND: Template(ProblemType.CONFLICT, "not_found", "no stored record matches this one, so there is nothing to update"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of one record; a row of `PROBLEM_COLUMNS`."""

    row: int
    kind: Kind
    field: str | None = None
    value: str | None = None
    detail: str | None = None


def render(problem: Mapping[str, Any], resource: Resource) -> dict[str, Any]:
    """A row of `PROBLEM_COLUMNS` in words: type, code, field, value and message of an error record (API.md, "Error records").

    The code names the last part of the field's path (`street_required`), the message the whole (`addresses[0].street is required`).
    """
    kind, path, detail = Kind(problem["kind"]), problem["field"] or "", problem["detail"] or ""
    template = CATALOGUE[kind]
    words = next((rule.message for rule in resource.rules if rule.code == detail), detail) if kind is Kind.RULE else ""
    return {
        "type": template.type.value,
        "code": template.code.format(field=path.rpartition(".")[2], detail=detail),
        "field": problem["field"],
        "value": problem["value"],
        "message": template.message.format(field=path, detail=detail, message=words),
    }
