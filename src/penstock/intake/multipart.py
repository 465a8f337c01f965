"""multipart/form-data as it arrives: fields are kept, the one file goes on to wherever it is received. Nothing is spooled to disk."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Generic, TypeAlias, TypeVar

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from penstock.errors import IncompleteBodyError, InvalidSourceError, MalformedMultipartError
from penstock.intake.bodies import too_large
from penstock.sources.names import disposition_name, file_name

FILE_FIELD = "file"
MOST_FIELDS = 32
FIELD_BYTES = 64 * 1024
BEYOND_BYTES = MOST_FIELDS * FIELD_BYTES + 1024 * 1024  # what a form may hold besides its file: fields, headers, boundaries
_PLAIN_ENCODINGS = ("7bit", "8bit", "binary")

_File = TypeVar("_File")
_Event: TypeAlias = MultipartSegment | bytes | None
Receive = Callable[[str, AsyncIterator[bytes]], Awaitable[_File]]


class Form(msgspec.Struct, Generic[_File], frozen=True, kw_only=True):
    fields: dict[str, str]
    file: _File


class FormCutShort(Exception, Generic[_File]):  # noqa: N818 - not an error: a receiver has seen enough
    """Raised by a receiver to leave the rest of the form unread; `fields` are those before the file."""

    def __init__(self, fields: dict[str, str], file: _File) -> None:
        super().__init__()
        self.fields = fields
        self.file = file


async def read_form(
    body: AsyncIterator[bytes],
    content_type: str,
    *,
    receive: Receive[_File],
    discard: Callable[[_File], Awaitable[None]],
    check: Callable[[dict[str, str]], None],
    max_file_bytes: int,
) -> Form[_File]:
    """Read a form to its end. `receive` gets the file's name and its bytes while they arrive; `discard` what came of it if the rest fails.

    `check` sees the fields that stand before the file, so that what is wrong there is refused before the file is received.

    Fields may stand before and behind the file: at most 32, each at most 64 KiB, each once. Raises MalformedMultipartError,
    PayloadTooLargeError, IncompleteBodyError, InvalidSourceError where there is no file, and what `body` and `receive` raise.
    """
    fields: dict[str, str] = {}
    received: list[_File] = []
    try:
        async with aclosing(_events(body, content_type)) as events:
            async for part in events:
                assert isinstance(part, MultipartSegment)  # the code below reads each part to its end
                if _is_file(part, already=bool(received)):
                    check(fields)
                    received.append(await receive(_name(part), _file_bytes(events, max_file_bytes)))
                else:
                    _add(fields, part, await _text(part, events))
    except BaseException:
        for file in received:
            await discard(file)
        raise
    if not received:
        raise InvalidSourceError(f"The form has no file: send it as the part named '{FILE_FIELD}'.")
    return Form(fields=fields, file=received[0])


async def _events(body: AsyncIterator[bytes], content_type: str) -> AsyncGenerator[_Event, None]:
    """A segment, its bytes, None at its end; then the next one."""
    parser = _parser(content_type)
    async for chunk in body:  # to its end, also behind the last boundary: only there it shows that the body was cut
        for event in _parsed(parser, chunk):
            yield event
    try:
        parser.close()
    except MultipartError:
        raise IncompleteBodyError("The form ended before its last boundary. Send it again.") from None


def _parser(content_type: str) -> PushMultipartParser:
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    try:
        return PushMultipartParser(boundary, max_segment_count=MOST_FIELDS + 1)
    except MultipartError:
        raise MalformedMultipartError("Content-Type must name the form's boundary: multipart/form-data; boundary=...") from None


def _parsed(parser: PushMultipartParser, chunk: bytes) -> list[_Event]:
    try:
        return list(parser.parse(chunk))
    except MultipartError as error:
        # Behind its own words the parser gives what Python raised, which tells a client nothing.
        raise MalformedMultipartError(f"The form is not well-formed multipart/form-data: {str(error.args[0]).rstrip('.')}.") from error


def _is_file(part: MultipartSegment, *, already: bool) -> bool:
    if (encoding := part.header("Content-Transfer-Encoding")) is not None and encoding.lower() not in _PLAIN_ENCODINGS:
        raise MalformedMultipartError(f"The part '{part.name}' is in {encoding!r}; send its bytes as they are.")
    if part.name != FILE_FIELD:
        if part.filename is not None:
            raise MalformedMultipartError(f"The file must be the part named '{FILE_FIELD}', not '{part.name}'.")
        return False
    if already:
        raise MalformedMultipartError(f"The form has more than one part named '{FILE_FIELD}'. Send one file with each request.")
    return True


def _name(part: MultipartSegment) -> str:
    return file_name(part.filename or disposition_name(part.header("Content-Disposition")), "file")


async def _file_bytes(events: AsyncIterator[_Event], max_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    while (event := await anext(events, None)) is not None:
        assert isinstance(event, bytes)
        size += len(event)
        if size > max_bytes:
            raise too_large(max_bytes)
        yield event


async def _text(part: MultipartSegment, events: AsyncIterator[_Event]) -> str:
    held = bytearray()
    while (event := await anext(events, None)) is not None:
        assert isinstance(event, bytes)
        held += event
        if len(held) > FIELD_BYTES:
            raise MalformedMultipartError(f"The field '{part.name}' is longer than {FIELD_BYTES} bytes.")
    try:
        return held.decode()
    except UnicodeDecodeError:
        raise MalformedMultipartError(f"The field '{part.name}' is not UTF-8 text.") from None


def _add(fields: dict[str, str], part: MultipartSegment, text: str) -> None:
    if not part.name:
        raise MalformedMultipartError("A part of the form has no name.")
    if part.name in fields:
        raise MalformedMultipartError(f"The field '{part.name}' is there twice. Give it once.")
    fields[part.name] = text
