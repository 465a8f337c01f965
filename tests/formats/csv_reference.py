"""The CSV rules as a slow machine of five states, byte by byte: what the vectorised reader must agree with."""

from dataclasses import dataclass


@dataclass
class Row:
    line: int
    cells: list[bytes] | None  # None: bad quoting
    raw: bytes


def read_rows(data: bytes, delimiter: int) -> tuple[list[Row], bool]:
    """The records of `data`, and whether what follows them is a quoted cell that never ends."""
    rows: list[Row] = []
    at = 0
    while at < len(data):
        if data[at] in b"\r\n":
            at += 1
            continue
        line = _lines(data[:at]) + 1
        cells, end, state = _record(data, at, delimiter)
        if state == "open":
            return rows, True
        if state == "bad":
            end = at
            while end < len(data) and data[end] not in b"\r\n":
                end += 1
        rows.append(Row(line, None if state == "bad" else cells, data[at:end]))
        at = end
    return rows, False


def _lines(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _record(data: bytes, at: int, delimiter: int) -> tuple[list[bytes], int, str]:
    cells: list[bytes] = []
    cell, state = bytearray(), "start"
    while True:
        byte = data[at] if at < len(data) else None
        if state == "quoted":
            if byte is None:
                return cells, at, "open"
            if byte == ord('"'):
                state = "closing"
            else:
                cell.append(byte)
        elif byte is None or byte in b"\r\n":
            return [*cells, bytes(cell)], at, "good"
        elif byte == delimiter:
            cells.append(bytes(cell))
            cell, state = bytearray(), "start"
        elif byte == ord('"') and state == "start":
            state = "quoted"
        elif byte == ord('"') and state == "closing":
            cell.append(byte)
            state = "quoted"
        elif byte == ord('"') or state == "closing":
            return cells, at, "bad"
        else:
            cell.append(byte)
            state = "plain"
        at += 1
