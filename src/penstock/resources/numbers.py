"""Decimal numbers from text, exactly: what does not fit is refused, never rounded."""

import re
from decimal import Decimal

from penstock.resources.problems import Kind

_NUMBER = re.compile(r"(-?)([0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_EXPONENT_DIGITS = 18  # longer ones would only cost time: no number that far from one fits any column


def exact_decimal(text: str, precision: int, scale: int) -> Decimal | Kind:
    """The number that is written, or what is wrong with it.

    INVALID: not a number; INVALID_FORMAT: digits other than zero below 10**-scale; OUT_OF_RANGE: more than `precision` digits. Works on the
    digits as text, so that 1e999999999 costs no more than it has characters.
    """
    found = _NUMBER.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        return Kind.INVALID
    digits = (found[2] + (found[3] or "")).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return Decimal(0)
    exponent = _exponent(found[4] or "0") - len(found[3] or "") + len(digits) - len(significant)
    if exponent < -scale:
        return Kind.INVALID_FORMAT
    if len(significant) + exponent > precision - scale:
        return Kind.OUT_OF_RANGE
    # Shifted as text: arithmetic would round to the digits of the running decimal context.
    return Decimal(f"{found[1]}{significant}e{exponent}")


def _exponent(text: str) -> int:
    sign, magnitude = (-1 if text[0] == "-" else 1), text.lstrip("+-").lstrip("0") or "0"
    return sign * int(magnitude[: _EXPONENT_DIGITS + 1]) if len(magnitude) <= _EXPONENT_DIGITS else sign * 10**_EXPONENT_DIGITS


def largest(precision: int, scale: int) -> Decimal:
    """The largest number of that many digits in all and after the point."""
    return Decimal(f"{'9' * precision}e-{scale}")
