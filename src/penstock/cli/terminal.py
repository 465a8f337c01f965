"""How text and figures are shown, safely: nothing that comes from a file can steer the terminal or Rich."""

import re
import sys
from datetime import datetime

from rich.console import Console
from rich.text import Text

WIDTH_OF_NO_TERMINAL = 160  # for pipes and log files: wide enough that no line of ours is folded
ELLIPSIS = "…"
# Controls (terminal escapes among them), invisible and direction-turning marks, and halves of surrogate pairs, which no encoding can write.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


def clean(value: object, limit: int | None = None) -> str:
    """The value as one line of harmless text: what could steer a terminal is written as its escape. `limit` counts characters."""
    text = str(value)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + ELLIPSIS
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def safe(value: object, style: str = "", limit: int | None = None) -> Text:
    """The same for Rich: a Text, in which brackets and emoji codes mean nothing."""
    return Text(clean(value, limit), style=style)


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes every string as it is: no markup, no emoji codes, no guessing of colours."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_OF_NO_TERMINAL
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def prepare_streams() -> None:
    """Let a character that the terminal's encoding lacks come out as an escape instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def count(number: float | None) -> str:
    return "-" if number is None else f"{round(number):,}"


def plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Bytes, in units of 1,000 as file managers show them."""
    units = ("B", "kB", "MB", "GB", "TB")
    step = 0
    while number >= 1000 and step < len(units) - 1:  # noqa: PLR2004 - the step between two units
        number, step = number / 1000, step + 1
    return f"{number:.0f} B" if step == 0 else f"{number:.1f} {units[step]}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minute, hour = 60, 3600
    if seconds < minute:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // minute}:{whole % minute:02} min" if whole < hour else f"{whole // hour}:{whole % hour // minute:02} h"


def moment(when: datetime | None) -> str:
    """Local time of the reader, to the second."""
    return "-" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
