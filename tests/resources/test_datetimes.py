"""Timestamps: declared forms only, exact, and within the years 1 to 9999."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidOptionError
from penstock.resources.datetimes import datetime_reader, moment_of


def read(text: str, declared: str | None = None, timezone: str | None = None) -> datetime | str:
    """The moment, or what the text must be instead; all roads are tried and agree."""
    reader = datetime_reader(declared, timezone)
    texts = pl.Series([text])
    value, detail = reader.read(texts).row(0)
    common = texts.alias("t").to_frame().select(reader.common(pl.col("t"))).to_series()[0]
    assert common in (None, value)
    assert (value is None) is (detail is not None)
    found: datetime | str = value if value is not None else detail
    if declared is timezone is None:
        alone = moment_of(text)
        assert alone == value if value is not None else isinstance(alone, str)
    return found


REFUSED = [
    "now", "infinity", "-infinity", "today", "epoch", "", " 2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z ", "2024-01-01T00:00:00Z\n",
    "2024-01-01T24:00:00Z", "2024-01-01T23:59:60Z", "2024-01-01T23:60:00Z", "2023-02-29T00:00:00Z", "2024-04-31T00:00:00Z",
    "2024-13-01T00:00:00Z", "2024-00-10T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
    "+2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z BC", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2024-1-1T00:00:00Z",
    "2024-01-01", "20240101T000000Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00 Z", "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00.1234567890Z", "2024-01-01T00:00:00.0000001Z", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+01:60",
    "\uff12\uff10\uff12\uff14-01-01T00:00:00Z", "2024-01-01t00:00:00Z", "1704067200", "2024-01-01T00:00: 1Z", "2024-W01-1T00:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_other_texts_are_refused(text: str) -> None:
    """Nothing but a date and time of the calendar, with a zone, is a timestamp."""
    assert isinstance(read(text), str)


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),  # noqa: DTZ001 - zones are added
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from("T "),
    st.sampled_from(["auto", "milliseconds", "microseconds"]),
)
def test_what_python_writes_is_read_back(moment: datetime, minutes: int, separator: str, precision: str) -> None:
    """Every timestamp that Python writes with an offset is the same moment here."""
    written = moment.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat(separator, precision)
    assert read(written) == datetime.fromisoformat(written).astimezone(UTC)


@given(st.text("0123456789-:.TZ+ ", min_size=16, max_size=28))
def test_the_short_road_never_takes_what_the_long_one_refuses(text: str) -> None:
    """Both roads agree on any text; `read` asserts it."""
    read(text)


def test_fractions_are_kept_or_refused() -> None:
    """Up to microseconds, and zeros beyond."""
    assert read("2024-01-01T00:00:00.123456000Z") == datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert read("2024-01-01T00:00:00.1234561Z") == "a date and time with at most microseconds; nothing is rounded"


def test_a_text_without_a_zone_needs_one() -> None:
    """The verdict says so; a timezone gives one, summer and winter, and leaves texts with a zone alone."""
    assert "needs a timezone" in str(read("2024-01-01T00:00:00"))
    assert read("2024-01-15T12:00:00", timezone="Europe/Berlin") == datetime(2024, 1, 15, 11, tzinfo=UTC)
    assert read("2024-07-15T12:00", timezone="Europe/Berlin") == datetime(2024, 7, 15, 10, tzinfo=UTC)
    assert read("2024-07-15T12:00Z", timezone="Europe/Berlin") == datetime(2024, 7, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize("year", [2024, 2150])
def test_times_that_never_were_or_were_twice(year: int) -> None:
    """The hour that a change of clocks skips, and the one that it repeats, are refused with the reason, in any century."""
    sundays = {2024: ("03-31", "10-27"), 2150: ("03-29", "10-25")}[year]
    assert "set forward" in str(read(f"{year}-{sundays[0]}T02:30:00", timezone="Europe/Berlin"))
    assert "twice" in str(read(f"{year}-{sundays[1]}T02:30:00", timezone="Europe/Berlin"))
    assert isinstance(read(f"{year}-{sundays[1]}T03:30:00", timezone="Europe/Berlin"), datetime)


@given(st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(9990, 1, 1)), st.sampled_from(["Europe/Berlin", "America/New_York"]))  # noqa: DTZ001 - as above
def test_zones_are_those_of_python(moment: datetime, zone: str) -> None:
    """A time in a zone is the moment that Python's zone database gives, after 2099 too."""
    found = read(moment.isoformat(), timezone=zone)
    placed = moment.replace(tzinfo=ZoneInfo(zone))
    unique = placed.utcoffset() == placed.replace(fold=1).utcoffset()
    assert found == placed.astimezone(UTC) if unique else isinstance(found, str)


def test_a_local_time_outside_the_years() -> None:
    """A zone may not carry a moment out of the years 1 to 9999."""
    assert isinstance(read("0001-01-01T00:00:00", timezone="Asia/Tokyo"), str)
    assert isinstance(read("9999-12-31T23:59:59", timezone="America/New_York"), str)


DECLARED = [
    ("%d.%m.%Y %H:%M", "31.1.2024 9:05", datetime(2024, 1, 31, 9, 5, tzinfo=UTC)),
    ("%d/%m/%y", "01/02/69", datetime(1969, 2, 1, tzinfo=UTC)),
    ("%d/%m/%y", "01/02/68", datetime(2068, 2, 1, tzinfo=UTC)),
    ("%Y%m%d%H%M%S", "20240131093000", datetime(2024, 1, 31, 9, 30, tzinfo=UTC)),
    ("%b %d, %Y %I:%M %p", "Jan 31, 2024 12:05 AM", datetime(2024, 1, 31, 0, 5, tzinfo=UTC)),
    ("%d %B %Y %I %p", "1 may 2024 12 pm", datetime(2024, 5, 1, 12, tzinfo=UTC)),
    ("%F %T%z", "2024-01-31 09:30:00+02:00", datetime(2024, 1, 31, 7, 30, tzinfo=UTC)),
    ("%F %T.%f", "2024-01-31 09:30:00.25", datetime(2024, 1, 31, 9, 30, 0, 250000, tzinfo=UTC)),
    ("100%% (%Y) [%m] ?<day>%d", "100% (2024) [01] ?<day>31", datetime(2024, 1, 31, tzinfo=UTC)),
]


@pytest.mark.parametrize(("declared", "text", "moment"), DECLARED)
def test_declared_formats(declared: str, text: str, moment: datetime) -> None:
    """A declared format is read as strptime reads it, and replaces ISO 8601."""
    assert read(text, declared, "UTC") == moment
    assert isinstance(read("2024-01-31T09:30:00Z", declared, "UTC"), str)


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("%Y%m%d", "2024111"),
        ("%d.%m.%Y", "30.02.2024"),
        ("%F %T", "2024-01-01 10:00:60"),
        ("%F %I:%M %p", "2024-01-01 13:00 PM"),
        ("%F %I %p", "2024-01-01 0 AM"),
    ],
)
def test_declared_formats_guess_nothing(declared: str, text: str) -> None:
    """Digits that could be read two ways, days that do not exist and hours that no clock shows are refused."""
    assert read(text, declared, "UTC") == f"a date and time written as {declared}"


@pytest.mark.parametrize("declared", ["", "%Y-%m", "%Y-%m-%d %Y", "%Y-%y-%m-%d", "%d.%m.%Y %Q", "%F %I:%M", "%F %H %p", "%F %", "%s"])
def test_formats_that_tell_no_moment(declared: str) -> None:
    """A format that does not say a day, or says something twice, is refused before any file is read."""
    with pytest.raises(InvalidOptionError):
        datetime_reader(declared, "UTC")
