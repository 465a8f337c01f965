"""A TCP proxy before PostgreSQL that makes its faults plain statements: cut, stall, refuse, and lose a COMMIT or the reply to one.

The idea is psycopg's `tests/fix_proxy.py`.
"""

import contextlib
import socket
import struct
import threading
from enum import Enum
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # a simple query message, as psycopg's commit sends it
_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
_BLOCK = 64 * 1024
_JOIN_SECONDS = 10


class Loss(Enum):
    """What becomes of the next COMMIT."""

    NONE = "none"
    REQUEST = "the connection breaks before the server gets it"
    REPLY = "the server commits, and the connection breaks before the client knows"


class Proxy:
    """Between a client and the server of `conninfo`; clients connect by `proxy.conninfo`. For one server, any number of connections."""

    def __init__(self, conninfo: str) -> None:
        parts = conninfo_to_dict(conninfo)
        self._host, self._port = str(parts.get("host") or "127.0.0.1"), int(parts.get("port") or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", hostaddr=None, port=self.port, sslmode="disable", gssencmode="disable")
        self.lost = threading.Event()  # a COMMIT or its reply was lost, as asked
        self._loss = Loss.NONE
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._guard = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def cut(self) -> int:
        """Break all connections, with a reset to both sides; how many there were."""
        with self._guard:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(*pair)
        return len(pairs)

    def stall(self) -> None:
        """Let nothing through, and keep the connections open: a network that swallows everything."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def refuse(self) -> None:
        """Break every new connection at once; those that are open stay."""
        self._refusing = True

    def accept(self) -> None:
        self._refusing = False

    def lose_commit(self, loss: Loss = Loss.REPLY) -> None:
        """Lose the next COMMIT that comes by, or its reply; `lost` is set when that has happened."""
        self.lost.clear()
        self._loss = loss

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()
        self._flowing.set()
        self.cut()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
            assert not thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _spawn(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self._refusing or (server := self._connect()) is None:
                _reset(client)
                continue
            with self._guard:
                self._pairs.append((client, server))
            self._spawn(self._pump, client, server, True)
            self._spawn(self._pump, server, client, False)

    def _connect(self) -> socket.socket | None:
        try:
            if not self._host.startswith("/"):
                return socket.create_connection((self._host, self._port))
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        except OSError:
            return None
        return server

    def _pump(self, source: socket.socket, target: socket.socket, to_server: bool) -> None:
        tail = b""  # a message may be cut anywhere
        try:
            while block := source.recv(_BLOCK):
                self._flowing.wait()
                if self._meets_loss(tail + block, to_server=to_server):
                    _reset(source, target)
                    self.lost.set()
                    return
                target.sendall(block)
                tail = (tail + block)[1 - len(_COMMIT) :]
        except OSError:
            pass
        finally:
            # Wakes the other direction's thread too; the sockets close when both have ended.
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            if not to_server:
                source.close()
                target.close()

    def _meets_loss(self, seen: bytes, *, to_server: bool) -> bool:
        wanted, sign = (Loss.REQUEST, _COMMIT) if to_server else (Loss.REPLY, _COMMITTED)
        with self._guard:
            if self._loss is not wanted or sign not in seen:
                return False
            self._loss = Loss.NONE
        return True


def _reset(*ends: socket.socket) -> None:
    """Close without the farewell that TCP otherwise says; what the other side sent meanwhile is thrown away."""
    for end in ends:
        with contextlib.suppress(OSError):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)
        end.close()
