"""Where the next page of a list begins that has the newest first: the moment and the id of the last one shown."""

import uuid
from datetime import datetime

from penstock.errors import InvalidOptionError


def encoded(moment: datetime, key: object) -> str:
    return f"{moment.isoformat()}/{key}"


def decoded(cursor: str | None, *, things: str) -> tuple[datetime | None, str | None]:
    """`things` are what the list is of, for the message. Raises InvalidOptionError."""
    if cursor is None:
        return None, None
    try:
        stamp, _, key = cursor.partition("/")
        return datetime.fromisoformat(stamp), str(uuid.UUID(key))
    except ValueError:
        raise InvalidOptionError(f"The cursor is not one that a list of {things} gave.", cursor=cursor) from None
