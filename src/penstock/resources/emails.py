"""Which texts are e-mail addresses: RFC 5322's dot-atom before the @, a host name with a top-level domain after it.

Letters beyond ASCII are accepted on both sides (RFC 6531, RFC 5890); quoted local parts, comments and address literals are not.
"""

import re
import unicodedata

import idna

MAX_LOCAL = 64  # RFC 5321, 4.5.3.1.1
MAX_DOMAIN = 253  # what fits the 255 octets of DNS

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_DOMAIN = rf"(?:{_LABEL}\.)+(?:[A-Za-z]{{2,}}|[Xx][Nn]--{_LABEL})"

# Without counted repetitions, which make a pattern large. An address of at most 64 bytes that matches keeps every limit anyway.
ASCII_SHAPE = rf"^{_ATOM}(?:\.{_ATOM})*@{_DOMAIN}$"
ALWAYS_FITS = 64  # bytes
LONG_PART = rf"^[^@]{{{MAX_LOCAL + 1}}}|@.*[^.@]{{64}}"  # a local part above 64, or a label above 63 characters
LONG_DOMAIN = rf"@[^@]{{{MAX_DOMAIN + 1}}}"

_WIDE_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_WIDE_ATOM}(?:\.{_WIDE_ATOM})*")
_HOST = re.compile(_DOMAIN)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})  # controls, bidi marks, unassigned, spaces


def is_international(text: str) -> bool:
    """Whether a text with letters beyond ASCII is an address; its length as a whole is the field's own rule."""
    local, at, domain = text.rpartition("@")
    if not at or len(local) > MAX_LOCAL or not _LOCAL.fullmatch(local):
        return False
    if any(unicodedata.category(c) in _INVISIBLE for c in local if not c.isascii()):
        return False
    host = domain if domain.isascii() else ascii_domain(domain)
    return host is not None and bool(_HOST.fullmatch(host)) and all(len(label) < MAX_LOCAL for label in host.split("."))


def ascii_domain(domain: str) -> str | None:
    """The A-label form, lower case, of a domain in any script; None where IDNA (UTS 46) refuses it."""
    if len(domain) > MAX_DOMAIN:  # the mapping takes time with the square of a label's length
        return None
    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return None
