"""Options as texts or JSON become what the services take; what is wrong is named with what is allowed."""

from typing import Any

import pytest

from penstock.errors import InvalidOptionError
from penstock.formats.model import Format, ReadOptions
from penstock.intake.wishes import OPTION_NAMES, Wishes, wishes_of
from penstock.jobs.model import Empty, ImportOptions, Mode, OnError

TEXTS = {
    "resource": "users",
    "format": "CSV",
    "mode": "insert",
    "dry_run": "Yes",
    "on_error": "abort",
    "atomic": "0",
    "max_errors": " 7 ",
    "empty": "clear",
    "timezone": "Europe/Lisbon",
    "datetime_format": "%d.%m.%Y %H:%M",
    "null_values": "NULL,",
    "mapping": '{"Mail": "email"}',
    "delimiter": "semicolon",
    "encoding": "latin-1",
}
VALUES = {
    **TEXTS,
    "dry_run": True,
    "atomic": False,
    "max_errors": 7,
    "null_values": ["NULL", ""],
    "mapping": {"Mail": "email"},
    "delimiter": ";",
}


@pytest.mark.parametrize("given", [TEXTS, VALUES], ids=["texts", "JSON"])
def test_every_option_is_taken_as_text_and_as_json(given: dict[str, Any]) -> None:
    assert set(given) == set(OPTION_NAMES)
    assert wishes_of(given) == Wishes(
        resource="users",
        read=ReadOptions(format=Format.CSV, delimiter=";", encoding="latin-1", null_values=("NULL", ""), mapping={"Mail": "email"}),
        options=ImportOptions(
            mode=Mode.INSERT,
            empty=Empty.CLEAR,
            on_error=OnError.ABORT,
            dry_run=True,
            max_errors=7,
            timezone="Europe/Lisbon",
            datetime_format="%d.%m.%Y %H:%M",
        ),
    )


def test_what_is_not_given_or_empty_is_the_default() -> None:
    """A form sends the fields that nobody filled in as empty texts."""
    assert wishes_of({}) == wishes_of(dict.fromkeys(OPTION_NAMES)) == wishes_of(dict.fromkeys(OPTION_NAMES, ""))
    assert wishes_of({}).asked() == wishes_of({"mode": "upsert", "atomic": "no"}).asked()


@pytest.mark.parametrize(
    ("text", "values"),
    [("NULL", ("NULL",)), ("NULL,", ("NULL", "")), (",", ("",)), ('["a,b", ""]', ("a,b", "")), ("[]", ()), ("a,a", ("a",))],
)
def test_null_values_as_a_list_or_with_commas(text: str, values: tuple[str, ...]) -> None:
    assert wishes_of({"null_values": text}).read.null_values == values


WRONG: list[tuple[str, Any]] = [
    ("format", "xls"),
    ("format", 5),
    ("mode", "replace"),
    ("on_error", True),
    ("empty", "drop"),
    ("dry_run", "maybe"),
    ("dry_run", 1),
    ("atomic", []),
    ("max_errors", "-1"),
    ("max_errors", "1.5"),
    ("max_errors", "9" * 5000),
    ("max_errors", "²"),
    ("max_errors", True),
    ("max_errors", 1.0),
    ("timezone", "Mars/Olympus"),
    ("timezone", 3),
    ("datetime_format", "no directive"),
    ("null_values", "[1]"),
    ("null_values", "[broken"),
    ("null_values", 5),
    ("mapping", "{broken"),
    ("mapping", "nothing"),
    ("mapping", {"a": 1}),
    ("mapping", []),
    ("delimiter", ";;"),
    ("delimiter", '"'),
    ("delimiter", "§"),
    ("encoding", "klingon"),
    ("encoding", "base64"),
    ("resource", 5),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_told_with_its_option(name: str, value: object) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        wishes_of({name: value})
    assert name in refused.value.message
    assert len(refused.value.message) < 500


def test_choices_are_told() -> None:
    with pytest.raises(InvalidOptionError) as refused:
        wishes_of({"mode": "replace"})
    assert refused.value.details == {"option": "mode", "value": "replace", "allowed": ["upsert", "insert", "update"]}


def test_an_unknown_option_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidOptionError, match=r"There is no option 'dryrun'.*Did you mean dry_run\?"):
        wishes_of({"dryrun": "true"})
    with pytest.raises(InvalidOptionError, match="'upload_id'"):
        wishes_of({"upload_id": "x"})
    assert wishes_of({"upload_id": "x"}, beside=["upload_id"]) == wishes_of({})
