"""What a browser is told to do with a download: save it, under a name that cannot do harm."""

import unicodedata
from urllib.parse import quote

_NAME_CHARACTERS = 150  # in UTF-8 at most 600 bytes, thrice that when escaped: header lines may have 8 KiB
_UNSAFE = frozenset("\"'\\/:*?<>|%;")
_FORMAT_CATEGORIES = ("C", "Zl", "Zp")  # controls, bidi marks, lone surrogates, unassigned; line and paragraph separators


def safe_name(name: str) -> str:
    """The name without folders, controls, quotes and what file systems refuse; may be empty."""
    kept = "".join(
        "_" if letter in _UNSAFE else letter for letter in name if not unicodedata.category(letter).startswith(_FORMAT_CATEGORIES)
    )
    return kept.strip(" .")[:_NAME_CHARACTERS]


def attachment(name: str | None) -> str:
    """The value of Content-Disposition: always `attachment`; the name in ASCII for old readers, and in full (RFC 6266, RFC 8187)."""
    safe = safe_name(name or "")
    if not safe:
        return "attachment"
    fallback = unicodedata.normalize("NFKD", safe).encode("ascii", "ignore").decode()
    if fallback == safe:
        return f'attachment; filename="{safe}"'
    return f"attachment; filename=\"{_fallback(safe)}\"; filename*=UTF-8''{quote(safe, safe='')}"


def _fallback(safe: str) -> str:
    """Letters lose their accents, what has no likeness in ASCII becomes `_`, and none of it may become what was taken out above."""
    plain = (unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "_" for letter in safe)
    return "".join("_" if letter in _UNSAFE else letter for letter in "".join(plain) if letter.isprintable())
