"""Canonical keys and e-mail addresses in any script."""

import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.resources.keys import ascii_lower, canonical, canonical_series, key_columns
from penstock.resources.model import Field, FieldType
from tests.resources.support import builtin, value

EMAIL = Field("email", FieldType.STRING, email=True)
NAME = Field("name", FieldType.STRING)

SAME = [
    ("Ann@Example.COM", "ann@example.com"),
    ("user@bücher.de", "user@xn--bcher-kva.de"),
    ("user@BÜCHER.de", "user@XN--BCHER-KVA.DE"),
    ("\N{KELVIN SIGN}@b.co", "k@b.co"),
    ("k@\N{KELVIN SIGN}.co", "k@k.co"),
    (unicodedata.normalize("NFD", "é@b.co"), unicodedata.normalize("NFC", "É@b.co")),
    ("straße@b.co", "STRASSE@b.co"),
    ("user@例え。jp", "user@xn--r8jz45g.jp"),
]
APART = [
    ("i@b.co", "İ@b.co"),
    ("i@b.co", "\N{LATIN SMALL LETTER DOTLESS I}@b.co"),
    ("a@b.co", "á@b.co"),
    ("user@faß.de", "user@fass.de"),
    ("a.b@c.de", "ab@c.de"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_mailbox_has_one_key(one: str, other: str) -> None:
    """Case, composition and the spelling of a domain do not make another key."""
    assert canonical(one, EMAIL, folds=True) == canonical(other, EMAIL, folds=True)


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_mailboxes_stay_apart(one: str, other: str) -> None:
    """Letters that only look alike, above all İ and i, are not merged."""
    assert canonical(one, EMAIL, folds=True) != canonical(other, EMAIL, folds=True)


LETTERS = st.sampled_from([*"aAkKiIzß.@-İıé", "\u212a", "e\u0301", "E\u0301", "\u017f", "Σ", "ς", "ü", "。", "xn--"])


@given(
    st.lists(st.text() | st.lists(LETTERS, max_size=8).map("".join) | st.none(), max_size=6), st.sampled_from([EMAIL, NAME]), st.booleans()
)
def test_columns_and_values_have_the_same_key(values: list[str | None], field: Field, folds: bool) -> None:
    """A column's keys are `canonical` of each value, and coalesce(stored, lower(value COLLATE "C")) gives them back."""
    series = pl.Series(values, dtype=pl.String)
    key, stored = key_columns(series, field, folds)
    expected = [None if v is None else canonical(v, field, folds) for v in values]
    assert key.to_list() == canonical_series(series, field, folds).to_list() == expected
    assert stored.name == f"{field.name}_key"
    if folds:
        back = [s if s is not None else None if v is None else ascii_lower(v) for v, s in zip(values, stored, strict=True)]
        assert back == expected
        assert all(s is None for v, s in zip(values, stored, strict=True) if v is None or v.isascii())
    else:
        assert stored.null_count() == len(values)


VALID = [
    "a@b.co", "first.last+tag@sub.example-site.org", "!#$%&'*+/=?^_`{|}~-@b.co", "a@b.xn--p1ai", "1@2.museum",
    "x" * 64 + "@" + "y" * 63 + ".com", "ü@é.de", "用户@例え.jp", "user@bücher.example", "a@b--c.de",
]  # fmt: skip
INVALID = [
    "foo@bar", "foo", "@b.co", "a@", "a@@b.co", "a@b@c.co", ".a@b.co", "a.@b.co", "a..b@c.co", "a@.b.co", "a@b..co", "a@b.co.", "a@-b.co",
    "a@b-.co", "a@b.c", "a@b.123", "a@b_c.co", " a@b.co", "a@b.co ", "a b@c.co", "a@b.co\n", "a,b@c.co", '"a b"@c.co', "a@[127.0.0.1]",
    "a(c)@b.co", "Ann <a@b.co>", "x" * 65 + "@b.co", "a@" + "y" * 64 + ".com", "ü@b", "ü..a@b.co", "ü\u00a0x@b.co", "ü\u200e@b.co",
    "\u202eü@b.co", "ü@-é.de", "a@☃.net", "ü" * 65 + "@b.co", "ü@xn--zz.dé", "ü@é_a.de", "a@é..de", "ü\0@b.co", "a\0@b.co",
]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_addresses(text: str) -> None:
    """Dot-atoms, tags and letters of any script are accepted, and the original is kept."""
    assert value(builtin("users"), "email", text) == text


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_address(text: str) -> None:
    """Nothing is trimmed or mended: a space, a dot too many or a host without a domain is refused."""
    assert value(builtin("users"), "email", text) == "email must be a valid e-mail address"
