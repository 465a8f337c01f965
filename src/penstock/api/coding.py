"""Which Content-Encoding an answer gets, by the Accept-Encoding of its request (RFC 9110, 12.5.3)."""

import re

from penstock.formats.model import Compression

_BY_NAME = {"zstd": Compression.ZSTD, "gzip": Compression.GZIP, "x-gzip": Compression.GZIP, "identity": Compression.NONE}
_WEIGHT = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE | re.ASCII)
_PREFERRED = (Compression.ZSTD, Compression.GZIP, Compression.NONE)  # where weights are equal


def coding_of(accept_encoding: str | None) -> Compression:
    """The coding with the greatest weight. Where none is acceptable, none: a plain answer is worth more than a refusal."""
    weights = _weights(accept_encoding or "")
    others = weights.get("*")
    by_coding: dict[Compression, float] = {}
    for name, coding in _BY_NAME.items():
        # Not mentioned at all: a coding is not wanted, the plain form is taken in need.
        weight = weights.get(name, 0.0 if name == "x-gzip" else others)
        by_coding[coding] = max(by_coding.get(coding, 0.0), weight if weight is not None else _LEAST if coding is Compression.NONE else 0.0)
    best = max(_PREFERRED, key=lambda coding: by_coding[coding])
    return best if by_coding[best] > 0 else Compression.NONE


_LEAST = 0.0001  # below every weight that can be written


def _weights(header: str) -> dict[str, float]:
    """By coding in lower case; what is no valid element is passed over."""
    weights: dict[str, float] = {}
    for element in header.split(","):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        if not name:
            continue
        if not parameters:
            weights[name] = 1.0
        elif len(parameters) == 1 and (written := _WEIGHT.fullmatch(parameters[0])):
            weights[name] = float(written[1])
    return weights
