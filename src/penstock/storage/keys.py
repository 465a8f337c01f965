"""What may be a key, so that none leads out of the folder or bucket, or to what storage keeps for itself."""

import re

from penstock.storage.model import Key

_KEY_CHARACTERS = 512  # a file system takes 255 bytes for each part, S3 1,024 for the whole
_PART_CHARACTERS = 200
_PART = rf"[A-Za-z0-9_-][A-Za-z0-9_.-]{{0,{_PART_CHARACTERS - 1}}}"
_KEY = re.compile(rf"{_PART}(/{_PART})*", re.ASCII)


def is_key(text: str) -> bool:
    return len(text) <= _KEY_CHARACTERS and _KEY.fullmatch(text) is not None


def checked(key: Key) -> Key:
    if not is_key(key):
        raise ValueError(f"not a key: {key!r}")
    return key
