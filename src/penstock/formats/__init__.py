"""Bytes to records: cut a file into chunks of whole records, and a chunk into columns of text."""

from penstock.formats.detect import describe, open_reader

__all__ = ["describe", "open_reader"]
