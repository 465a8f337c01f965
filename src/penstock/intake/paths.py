"""Files that a client names: only regular files below the one folder that the operator opened for it."""

import re
from pathlib import Path

from penstock.errors import InvalidSourceError

_ENDING = re.compile(r"\.(json|ndjson|csv)(\.(gz|zst))?", re.IGNORECASE)


def path_below(base: Path | None, given: str) -> Path:
    """The real path of a regular file below `base`, links followed. Raises InvalidSourceError, the same for what is not there and what
    lies elsewhere, so that nobody can ask what the machine holds.
    """
    if base is None:
        raise InvalidSourceError("This server takes no source_path: its operator has not set IMPORT_BASE_DIR. Send the file instead.")
    root = base.resolve()
    try:
        path = (root / given).resolve(strict=True)
        found = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # not there, not allowed; a NUL or a lone surrogate; links in a circle
        found = False
    if not found:
        raise InvalidSourceError(
            "source_path must name a file below the server's import folder (IMPORT_BASE_DIR).", source_path=given[:500]
        )
    return path


def check_ending(given: str) -> None:
    """What the form of the earlier systems takes. Raises InvalidSourceError."""
    if not _ENDING.fullmatch("".join(Path(given).suffixes[-2:])) and not _ENDING.fullmatch(Path(given).suffix):
        raise InvalidSourceError(
            "source_path must be a .json, .ndjson or .csv file, or one of these with .gz or .zst behind it.", source_path=given[:500]
        )
