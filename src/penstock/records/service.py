"""What the API calls to read a record."""

import re

from psycopg import sql

from penstock.database.connect import Database
from penstock.database.sqlstates import translated
from penstock.errors import InvalidIdError, RecordNotFoundError
from penstock.records.statements import select_one
from penstock.resources.model import FieldType, Resource, ResourceName
from penstock.resources.registry import Registry

MAX_KEY_CHARACTERS = 600  # no key of a resource may be longer: penstock.resources.compiling
_SHOWN_CHARACTERS = 100  # of a refused id, in the message
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


class Records:
    """May be used by several threads."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._statements: dict[ResourceName, sql.Composed] = {}

    def get(self, resource: str, record_id: str) -> bytes:
        """The row as one JSON object in UTF-8: the resource's fields in their order, then its children, each a list in stored order.

        Uuids are lower-case, timestamps ISO 8601 in UTC with Z (microseconds where there are any), numbers have the digits that are stored,
        no value is null. Raises UnknownResourceError, InvalidIdError, RecordNotFoundError.
        """
        declared = self._registry.get(resource)
        key = _key(declared, record_id)
        with self._database.connection() as connection, translated("reading a record"):
            row = connection.execute(self._statement(declared), [key]).fetchone()
        if row is None:
            raise RecordNotFoundError(f"There is no record {record_id!r} in {resource}.", resource=resource, id=record_id)
        text: str = row[0]
        return text.encode()

    def _statement(self, resource: Resource) -> sql.Composed:
        if (statement := self._statements.get(resource.name)) is None:
            statement = self._statements[resource.name] = select_one(resource)
        return statement


def _key(resource: Resource, given: str) -> str:
    if resource.by_name[resource.primary_key].type is FieldType.UUID:
        if not _UUID.fullmatch(given):
            raise _refused(resource, given, "a UUID, such as 018f6f2e-7c1a-7b3e-9d51-0c8e2f5a4b6d")
    elif not 0 < len(given) <= MAX_KEY_CHARACTERS or "\0" in given or not _is_unicode(given):
        raise _refused(resource, given, f"a text of 1 to {MAX_KEY_CHARACTERS} characters without NUL")
    return given


def _refused(resource: Resource, given: str, allowed: str) -> InvalidIdError:
    shown = given[:_SHOWN_CHARACTERS]
    return InvalidIdError(f"{shown!r} is no id of {resource.name}: it must be {allowed}.", resource=resource.name, id=shown)


def _is_unicode(text: str) -> bool:
    """Halves of surrogate pairs have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
