"""Lines out of a stream of bytes. Only a line feed ends one: str.splitlines would cut JSON at U+2028, which may stand in it."""

from collections.abc import Iterable, Iterator


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each line without its end; what follows the last line feed is a line too."""
    begun: list[bytes] = []
    for chunk in chunks:
        first, *more = chunk.split(b"\n")
        begun.append(first)
        for part in more:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [part]
    if last := b"".join(begun):
        yield last


def data_of(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each server-sent event that has any, whole. Comments, which keep the connection alive, give none."""
    data: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line.removeprefix(b"data:").removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
