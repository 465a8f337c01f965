"""What a client calls its file, made safe to store and to show."""

import re
import unicodedata
from pathlib import PurePosixPath

MOST_CHARACTERS = 255
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # marks that turn the direction of writing can forge an ending
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")


def file_name(given: str | None, default: str) -> str:
    """The last part of the path, without controls, at most 255 characters; its endings, which tell the format, are kept."""
    last = re.split(r"[/\\]", given or "")[-1]
    kept = "".join(letter for letter in _TURNING.sub("", last) if unicodedata.category(letter) not in _UNSEEN).strip()
    if kept.strip(".") == "":
        return default
    if len(kept) <= MOST_CHARACTERS:
        return kept
    endings = "".join(PurePosixPath(kept).suffixes[-2:])[-32:]
    return kept[: MOST_CHARACTERS - len(endings)] + endings
