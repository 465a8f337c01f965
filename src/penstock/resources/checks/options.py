"""What a check is told and what it yields."""

from dataclasses import dataclass, field

import polars as pl

from penstock.resources.datetimes import DatetimeReader, datetime_reader


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How a file's records are meant. Raises InvalidOptionError for a timezone or a format that means nothing."""

    partial: bool = False  # only stored records are changed: a required field may be absent, a key may not
    nulls_are_final: bool = False  # no stored value will stand in for an absent one
    timezone: str | None = None  # an IANA name, for timestamps without a zone
    datetime_format: str | None = None  # a strptime format, in place of ISO 8601
    datetimes: DatetimeReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "datetimes", datetime_reader(self.datetime_format, self.timezone))


@dataclass(frozen=True, slots=True)
class Checked:
    """Both by row; problems of one record in the order of its fields."""

    good: pl.DataFrame  # the records without any problem, columns as in `types.good_schema`
    problems: pl.DataFrame  # PROBLEM_COLUMNS
