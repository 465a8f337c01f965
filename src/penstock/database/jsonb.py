"""Values on their way into jsonb, which takes neither NUL nor lone surrogates."""

from typing import Any

from psycopg.types.json import Jsonb

NUL_SIGN = "\u2400"


def storable(value: Any) -> Any:
    """The same, with texts that jsonb takes: NUL shows as its sign, a lone surrogate as U+FFFD."""
    if isinstance(value, str):
        return value.replace("\0", NUL_SIGN).encode("utf-8", "replace").decode() if "\0" in value or not _sound(value) else value
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value


def _sound(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def jsonb(value: Any) -> Jsonb:
    return Jsonb(storable(value))
