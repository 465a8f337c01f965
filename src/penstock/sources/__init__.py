"""Where a file's bytes come from, and how they become UTF-8 text: open, decompress, decode."""

from penstock.sources.local import open_source
from penstock.sources.model import ByteStream, Identity, Source

__all__ = ["ByteStream", "Identity", "Source", "open_source"]
