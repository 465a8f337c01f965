"""What a client calls its file, made safe to store and to show."""

import re
import unicodedata
from email.message import Message
from pathlib import PurePosixPath
from urllib.parse import unquote

MOST_CHARACTERS = 255
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # marks that turn the direction of writing can forge an ending
_EXTENDED = re.compile(r"(?i)\bfilename\*\s*=\s*([a-z0-9_.-]+)'[^']*'([^;\s]*)", re.ASCII)
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


def disposition_name(header: str | None) -> str | None:
    """The file's name in a Content-Disposition header, `filename*` of RFC 8187 included, as it stands there."""
    if not header:
        return None
    if extended := _EXTENDED.search(header):  # it goes before a plain `filename`, wherever it stands
        try:
            return unquote(extended[2], encoding=extended[1])
        except (LookupError, UnicodeError):  # no such encoding, or one that takes no replacement for what it cannot read
            return unquote(extended[2])
    message = Message()
    try:
        message["Content-Disposition"] = header
        return message.get_filename()
    except ValueError:  # a line end in the header
        return None
