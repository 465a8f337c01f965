"""Timestamps from text, by a declared form only: ISO 8601 with a zone, or a strptime format.

The native parsers are not asked what a text means: chrono takes a 60th second, a signed year and missing zeros, PostgreSQL takes `now`. A
pattern takes the text apart, the parts are put together again, and only then a native parser decides whether the day exists.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from penstock.errors import InvalidOptionError

UTC_MICROSECONDS = pl.Datetime("us", "UTC")
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

_COMMON = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z$"
_FRACTION = r"(?<fraction>[0-9]{1,9})"
_ZONE = r"(?<zone>[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_ISO = (
    r"^(?<year>[0-9]{4})-(?<month>[0-9]{2})-(?<day>[0-9]{2})[T ]"
    rf"(?<hour>[01][0-9]|2[0-3]):(?<minute>[0-5][0-9])(?::(?<second>[0-5][0-9])(?:\.{_FRACTION})?)?{_ZONE}?$"
)
_ONE = re.compile(_ISO.replace("(?<", "(?P<"))
_ISO_HINT = "an ISO 8601 date and time with a zone, such as 2024-01-31T09:30:00Z"
_NO_ZONE = "a date and time with a zone (Z or an offset), or the import needs a timezone"
_TOO_FINE = "a date and time with at most microseconds; nothing is rounded"
_RANGE = "a date and time within the years 1 to 9999 in UTC"

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "zone", "short_year", "month_name", "hour12", "half")
_DIGITS = {"m": "month", "d": "day", "H": "hour", "M": "minute", "S": "second", "I": "hour12"}
_DIRECTIVES = {
    "Y": r"(?<year>[0-9]{4})",
    "y": r"(?<short_year>[0-9]{2})",
    "f": _FRACTION,
    "z": _ZONE,
    "b": rf"(?<month_name>(?i:{'|'.join(m[:3] for m in _MONTHS)}))",
    "B": rf"(?<month_name>(?i:{'|'.join(_MONTHS)}))",
    "p": r"(?<half>(?i:am|pm))",
    "%": "%",
}
_COMPOUNDS = {"%T": "%H:%M:%S", "%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%R": "%H:%M"}
_LAST_ZONED_YEAR = 2099  # Polars' zone rules end there (chrono-tz keeps winter time for ever after); Python's go on


@dataclass(frozen=True, slots=True)
class DatetimeReader:
    """Reads one declared form. `read` and `common` agree; `common` knows only the most frequent shape, and is several times faster."""

    pattern: str
    hint: str
    timezone: str | None

    def common(self, text: pl.Expr) -> pl.Expr:
        """Timestamps of texts like 2024-01-31T09:30:00Z, null for all others."""
        if self.pattern != _ISO:
            return pl.lit(None, dtype=UTC_MICROSECONDS)
        # Without the cache, which helps constant columns a little and slows all others.
        parsed = text.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", strict=False, cache=False)
        return pl.when(text.str.contains(_COMMON) & (parsed >= pl.lit(FIRST, dtype=UTC_MICROSECONDS))).then(parsed)

    def read(self, texts: pl.Series) -> pl.DataFrame:
        """Columns `value` (UTC, microseconds; null where wrong) and `detail` (what it must be instead; null where right)."""
        parts = texts.alias("text").to_frame().lazy().select(pl.col("text").str.extract_groups(self.pattern).alias("parts")).unnest("parts")
        names = parts.collect_schema().names()
        parts = parts.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in _PARTS if name not in names)
        frame = parts.with_columns(naive=_naive(), finer=_fraction().str.slice(6).str.contains("[1-9]")).collect()
        frame = frame.with_columns(self._zoned(frame)) if self.timezone else frame.with_columns(local=None, why=pl.lit(_NO_ZONE))
        value = pl.when(pl.col("zone").is_null()).then("local").otherwise(pl.col("naive").dt.replace_time_zone("UTC") - _offset())
        why = (
            pl.when(pl.col("naive").is_null()).then(pl.lit(self.hint))
            .when("finer").then(pl.lit(_TOO_FINE))
            .when(pl.col("zone").is_null() & pl.col("why").is_not_null()).then("why")
            .when(~pl.col("value").is_between(FIRST, LAST)).then(pl.lit(_RANGE))
        )  # fmt: skip
        told = frame.lazy().with_columns(value=value.cast(UTC_MICROSECONDS)).with_columns(detail=why.cast(pl.String))
        return told.select(pl.when(pl.col("detail").is_null()).then("value").alias("value"), "detail").collect()

    def _zoned(self, frame: pl.DataFrame) -> list[pl.Series]:
        """`local`: the moment in UTC of texts without a zone; `why`: what is wrong with those that have none or two."""
        assert self.timezone
        naive = pl.when(pl.col("zone").is_null()).then("naive")
        place = partial(naive.dt.replace_time_zone, self.timezone, non_existent="null")
        table = frame.lazy().select(naive=naive, one=place(ambiguous="null"), either=place(ambiguous="earliest")).with_columns(
            why=pl.when(pl.col("naive").is_null() | pl.col("one").is_not_null()).then(None)
            .when(pl.col("either").is_null()).then(pl.lit(_gap(self.timezone)))
            .otherwise(pl.lit(_ambiguous(self.timezone))),
            local=pl.col("one").dt.convert_time_zone("UTC"),
        ).collect()  # fmt: skip
        late = table.select(pl.arg_where(pl.col("naive").dt.year() > _LAST_ZONED_YEAR)).to_series()
        local, why = table["local"], table["why"].cast(pl.String)
        if len(late):
            answers = [_late(moment, self.timezone) for moment in table["naive"].gather(late)]
            local = local.scatter(late, pl.Series([a[0] for a in answers], dtype=UTC_MICROSECONDS))
            why = why.scatter(late, pl.Series([a[1] for a in answers], dtype=pl.String))
        return [local.alias("local"), why.alias("why")]


def datetime_reader(declared: str | None, timezone: str | None) -> DatetimeReader:
    """The reader of a declared strptime format, or of ISO 8601 if there is none.

    `timezone`: an IANA name for texts without a zone. Raises InvalidOptionError for an unknown zone or a format that does not say a day.
    """
    if timezone is not None and not _is_zone(timezone):
        message = f"timezone {timezone!r} is unknown: give a name of the IANA database, such as Europe/Berlin"
        raise InvalidOptionError(message, option="timezone", value=timezone)
    if declared is None:
        return DatetimeReader(_ISO, _ISO_HINT, timezone)
    return DatetimeReader(_pattern(declared), f"a date and time written as {declared}", timezone)


def moment_of(text: str) -> datetime | str:
    """What `read` of ISO 8601 with a zone finds in one text, or what it must be instead: in 2 us, where `read` takes 1 ms."""
    found = _ONE.fullmatch(text)
    if found is None:
        return _ISO_HINT
    try:
        moment = datetime.fromisoformat(text.upper())  # the pattern has seen to it that both mean the same
    except ValueError:
        return _ISO_HINT
    if (fraction := found["fraction"]) and fraction[6:].strip("0"):
        return _TOO_FINE
    if found["zone"] is None:
        return _ISO_HINT
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _RANGE


def _is_zone(name: str) -> bool:
    """Whether Polars knows a zone of that name; it takes bare offsets too, but Python's zone rules do not."""
    try:
        pl.Series([datetime(2024, 1, 1)]).dt.replace_time_zone(name)  # noqa: DTZ001 - the zone is what is tried
    except (pl.exceptions.PolarsError, ValueError):
        return False
    return name[:1].isalpha()


def _pattern(declared: str) -> str:
    """A strptime format as a pattern with named groups.

    A number may lack its leading zero (1/2/2024) except where another number touches it: 2024111 could be two different days.
    """
    text = re.sub("%[TFDR]", lambda m: _COMPOUNDS[m[0]], declared)
    tokens = re.findall(r"%.|%$|[^%]+", text, re.DOTALL)
    numeric = [t[0] == "%" and t[1:] in {*_DIGITS, "Y", "y", "f"} for t in tokens]
    pieces: list[str] = []
    for at, token in enumerate(tokens):
        directive = token[1:] if token[0] == "%" else None
        if directive is None:
            pieces.append(re.escape(token))
        elif directive in _DIGITS:
            touches = any(numeric[max(at - 1, 0) : at] + numeric[at + 1 : at + 2])
            pieces.append(f"(?<{_DIGITS[directive]}>[0-9]{{{2 if touches else '1,2'}}})")
        elif directive in _DIRECTIVES:
            pieces.append(_DIRECTIVES[directive])
        else:
            raise _refused(declared, f"the directive {token} is not supported")
    _must_tell_a_moment(declared, [m[1] for p in pieces if (m := re.match(r"\(\?<(\w+)>", p))])
    return f"^{''.join(pieces)}$"


def _must_tell_a_moment(declared: str, groups: list[str]) -> None:
    present = set(groups)
    if len(present) < len(groups):
        raise _refused(declared, "a part stands in it twice")
    for alternatives in (("year", "short_year"), ("month", "month_name"), ("day",)):
        if len(present.intersection(alternatives)) != 1:
            raise _refused(declared, f"it needs one {alternatives[0]}")
    if {"hour12", "half"} & present and (not {"hour12", "half"} <= present or "hour" in present):
        raise _refused(declared, "%I and %p go together, and not with %H")


def _refused(declared: str, why: str) -> InvalidOptionError:
    allowed = " ".join(f"%{d}" for d in (*_DIGITS, *_DIRECTIVES)) + " " + " ".join(_COMPOUNDS)
    return InvalidOptionError(f"datetime_format {declared!r}: {why}; known are {allowed}", option="datetime_format", value=declared)


def _naive() -> pl.Expr:
    """The moment as written, without its zone; null where the parts make no moment."""
    short = pl.col("short_year").cast(pl.Int32)
    year = pl.coalesce("year", (short + pl.when(short < 69).then(2000).otherwise(1900)).cast(pl.String))  # noqa: PLR2004 - POSIX's pivot
    names = pl.col("month_name").str.to_lowercase().str.slice(0, 3)
    month = pl.coalesce(
        "month", names.replace_strict({m[:3]: f"{i:02}" for i, m in enumerate(_MONTHS, 1)}, default=None, return_dtype=pl.String)
    )
    hour12 = pl.col("hour12").cast(pl.Int32)
    afternoon = pl.when(pl.col("half").str.to_lowercase() == "pm").then(12).otherwise(0)
    hour = pl.coalesce(
        "hour",
        pl.when(hour12.is_between(1, 12)).then((hour12 % 12 + afternoon).cast(pl.String)),
        pl.when(hour12.is_null()).then(pl.lit("0")),
    )
    day = [year.str.zfill(4), month.str.zfill(2), pl.col("day").str.zfill(2)]
    time = [hour.str.zfill(2), *(pl.col(part).fill_null("0").str.zfill(2) for part in ("minute", "second"))]
    text = pl.concat_str(pl.concat_str(day, separator="-"), pl.concat_str(time, separator=":"), separator="T")
    seconds = text.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False, cache=False)
    micros = pl.duration(microseconds=_fraction().str.slice(0, 6).cast(pl.Int64), time_unit="us")
    return pl.when(~text.str.ends_with(":60")).then(seconds + micros)  # chrono would take a leap second for the next minute's first


def _fraction() -> pl.Expr:
    return pl.col("fraction").fill_null("0").str.pad_end(9, "0")


def _offset() -> pl.Expr:
    digits = pl.col("zone").str.replace_all(":", "", literal=True)
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    signed = pl.when(digits.str.starts_with("-")).then(-minutes).otherwise(minutes)
    return pl.duration(minutes=signed.fill_null(0), time_unit="us")


def _late(moment: datetime, name: str) -> tuple[datetime | None, str | None]:
    """What `_zoned` decides, by Python's zone rules."""
    try:
        zone = ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return None, f"a date and time with a zone: this system does not know the rules of {name} after {_LAST_ZONED_YEAR}"
    placed = moment.replace(tzinfo=zone)
    try:
        there = placed.astimezone(UTC)
        if there.astimezone(zone).replace(tzinfo=None) != moment:
            return None, _gap(name)
    except OverflowError:
        return None, _RANGE
    if placed.utcoffset() != placed.replace(fold=1).utcoffset():
        return None, _ambiguous(name)
    return there, None


def _gap(zone: str) -> str:
    return f"a time that exists in {zone}: the clocks were set forward over this one"


def _ambiguous(zone: str) -> str:
    return f"a time with an offset: the clocks of {zone} were set back, so it was this time twice"
