"""The PostgreSQL that Penstock brings along: started by the first process that needs it, shared, stopped by the last.

Everything stands in the data folder, which may be moved while no process uses it:

    postgres/            the cluster, with the server's socket in it
    postgres.log         what the server says
    postgres.users.lock  held shared by every process that uses the server
    postgres.start.lock  held by the one that looks, starts or stops

Who leaves tries to change its shared lock into an exclusive one: if that works it was the last, and stops the server. The kernel drops the
lock of a killed process, so none is counted that is not there. When all are killed the server stays up; the next process finds it, uses it
and stops it at its end. The server needs none of them to live.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.database.cluster import Cluster, conninfo, socket_folder
from penstock.database.locks import locked, open_lock, try_lock
from penstock.errors import DatabaseUnavailableError
from penstock.logs import get_logger

_START_LOCK_SECONDS = 1000  # above a start with recovery by another process, which has limits of its own
_STOP_LOCK_SECONDS = 90


class EmbeddedPostgres:
    """A share in the server of `data_dir`, between `start` and `stop`. Not for use by several threads at once.

    For tests: `options` are further server settings if this share starts it, `sync=False` skips waiting for the disk when the cluster is
    made, `namespaces=False` does as if the kernel had no user namespaces.
    """

    def __init__(self, data_dir: Path, *, options: Mapping[str, str] | None = None, sync: bool = True, namespaces: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        self._cluster = Cluster(
            self.data_dir / "postgres", self.data_dir / "postgres.log", options=options or {}, sync=sync, namespaces=namespaces
        )
        self._start_lock = self.data_dir / "postgres.start.lock"
        self._users: int | None = None
        self._open = ExitStack()
        self._folder: Path | None = None

    @property
    def conninfo(self) -> str:
        """How to connect, as libpq takes it; for processes of the same user, while this share is held."""
        assert self._folder is not None, "not started"
        return conninfo(self._folder)

    @property
    def runs(self) -> bool:
        """Whether the server's process lives, whoever started it. Cheap; needs no share."""
        return self._cluster.running() is not None

    def start(self) -> Self:
        """Take a share: use the server that runs, or start it, or first make it. Raises DatabaseUnavailableError, DatabaseRefusedError."""
        if self._users is not None:
            return self
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self._start_lock, _START_LOCK_SECONDS), ExitStack() as undo:
                users = open_lock(self.data_dir / "postgres.users.lock")
                undo.callback(os.close, users)
                # Nobody waits here: an exclusive holder holds the start lock as well.
                held = try_lock(users, shared=True)
                assert held, "an exclusive lock on the users without the start lock"
                self._bring_up()
                undo.pop_all()
                self._users = users
        except TimeoutError as error:
            raise DatabaseUnavailableError(f"Another process holds the lock {self._start_lock} and does not end; look for it.") from error
        except OSError as error:
            raise DatabaseUnavailableError(
                f"The embedded PostgreSQL cannot use {self.data_dir}: {error.strerror} ({error.filename}). Set PENSTOCK_DATA_DIR to "
                "a folder that the user who runs Penstock owns and can write, on a disk with space."
            ) from error
        self._folder = self._open.enter_context(socket_folder(self._cluster.path))
        return self

    def stop(self) -> bool:
        """Give the share back; whether that stopped the server, because nobody else had one."""
        if self._users is None:
            return False
        users, self._users, self._folder = self._users, None, None
        try:
            with locked(self._start_lock, _STOP_LOCK_SECONDS):
                if not try_lock(users):
                    return False
                self._cluster.stop()
                return True
        except TimeoutError:
            get_logger(__name__).warning("left the embedded PostgreSQL running: another process is starting or stopping it")
            return False
        finally:
            os.close(users)
            self._open.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.stop()

    def _bring_up(self) -> None:
        log = get_logger(__name__)
        if not self._cluster.exists:
            log.info("making the embedded PostgreSQL", folder=str(self.data_dir))
            self._cluster.create()
        self._cluster.check_version()
        pid = self._cluster.running()
        if pid is not None and self._cluster.adopt(pid):
            log.debug("embedded PostgreSQL found running", folder=str(self.data_dir), pid=pid)
        else:
            self._cluster.start()
            log.debug("embedded PostgreSQL started", folder=str(self.data_dir))
