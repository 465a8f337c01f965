"""Text in any declared encoding, or any that a byte order mark names, as UTF-8.

Bytes that cannot be decoded become 0xFF, which no UTF-8 text contains: the record that holds them is found and rejected by the very check
that finds bad UTF-8, and its neighbours go on. Nothing is replaced by a character that looks like text.
"""

import codecs
from typing import Final

from penstock.errors import InvalidOptionError, TruncatedFileError
from penstock.sources.model import ByteStream

UTF8: Final = "utf-8"
UTF8_BOM: Final = codecs.BOM_UTF8
_BOMS: Final = (  # the UTF-32 mark begins with the UTF-16 one, so it is asked first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, UTF8),
)
_MARK: Final = "\udcff"  # a lone surrogate: no decoder yields it
_TEXT_ESCAPES: Final = ("unicode_escape", "raw_unicode_escape", "idna", "punycode", "undefined", "mbcs", "oem")


def encoding_of(head: bytes, declared: str | None) -> str:
    """The canonical codec name for text that begins with `head`.

    Raises InvalidOptionError for an unknown codec, or for one that the text's byte order mark contradicts.
    """
    marked = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    if declared is None:
        return marked or UTF8
    name = canonical_codec(declared)
    if marked is not None and not marked.startswith(name):
        raise InvalidOptionError(
            f"the file begins with a byte order mark of {marked.upper()}, but encoding={declared} was given",
            encoding=declared,
            found=marked,
        )
    return marked or name


def canonical_codec(declared: str) -> str:
    try:
        found = codecs.lookup(declared)
    except (LookupError, ValueError):
        found = None
    # Python's table also holds codecs that are no character sets (base64, zip, unicode_escape); only private metadata tells the first kind.
    if found is None or not getattr(found, "_is_text_encoding", True) or found.name.replace("-", "_") in _TEXT_ESCAPES:
        raise InvalidOptionError(
            f"encoding={declared} is not a known text encoding; try utf-8, utf-16, latin-1, cp1252 or shift_jis", encoding=declared
        )
    name = found.name
    return UTF8 if name == "utf-8-sig" else name


def _marked(fault: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(fault, UnicodeDecodeError):
        return _MARK, fault.end
    if isinstance(fault, UnicodeEncodeError):  # the mark on its way out; some codecs also yield lone surrogates themselves
        return b"\xff" * (fault.end - fault.start), fault.end
    raise fault


_ERRORS: Final = "penstock.undecodable"
codecs.register_error(_ERRORS, _marked)


class Transcoder:
    """A stream in another encoding as a stream of UTF-8, without its byte order mark."""

    def __init__(self, stream: ByteStream, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_ERRORS)
        self._begun = False
        self._ended = False
        self._out = b""
        self._fault: TruncatedFileError | None = None

    def read(self, size: int, /) -> bytes:
        while not self._out:
            if self._fault:
                raise self._fault
            if self._ended:
                return b""
            self._out = self._more(size)
        out, self._out = self._out[:size], self._out[size:]
        return out

    def close(self) -> None:
        self._stream.close()

    def _more(self, size: int) -> bytes:
        try:
            block = self._stream.read(size)
        except TruncatedFileError as fault:
            self._fault = fault
            return b""
        self._ended = not block
        try:
            text = self._decoder.decode(block, self._ended)
        except UnicodeError as fault:  # what our error handler is not asked about: a missing mark
            raise InvalidOptionError(f"the file cannot be read so: {fault}; say utf-16-le, utf-16-be, utf-32-le or utf-32-be") from fault
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        return text.encode(UTF8, _ERRORS)
