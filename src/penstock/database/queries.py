"""SQL that stands in files: each statement under a line `-- name: what_it_is`, with a comment on what it is for."""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load(package: str, file: str) -> dict[str, bytes]:
    """Statements of `<package>/sql/<file>` by name, as psycopg takes them."""
    text = files(package).joinpath("sql", file).read_text("utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}
