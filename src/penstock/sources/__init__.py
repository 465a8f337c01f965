"""Where a file's bytes come from, and how they become UTF-8 text: open, decompress, decode."""

from penstock.sources.local import open_source
from penstock.sources.model import ByteStream, Identity, Source
from penstock.sources.opening import Sources

__all__ = ["ByteStream", "Identity", "Source", "Sources", "open_source"]
