"""One PostgreSQL cluster in a folder: made, started, looked at, stopped, with the wheel's programs driven directly.

It listens on one Unix socket, in its own folder, that only the folder's owner can enter; there is no TCP and so no password. The socket's
path is relative to the folder and moves with it. Nothing here takes locks: `penstock.database.embedded` sees to it that one process at a
time comes here.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from penstock.database.accounts import MAJOR, Account, account_for, programs_folder
from penstock.database.processes import alive, command_line
from penstock.errors import DatabaseRefusedError, DatabaseUnavailableError
from penstock.logs import get_logger

USER, DATABASE, PORT = "postgres", "penstock", 5432  # the port only names the socket's file
_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST_FOLDER = 103 - len("/" + _SOCKET)  # a socket's path holds 103 bytes on macOS, 107 on Linux
_POLL_SECONDS = 0.02
_INIT_SECONDS = 120
_START_SECONDS = 60  # until it answers at all; recovery after a crash may take longer, see _RECOVERY_SECONDS
_RECOVERY_SECONDS = 900
_ORPHANS_SECONDS = 30  # for the backends of a killed postmaster to notice and let go of the shared memory
_STOP_SECONDS = 60
_KILL_SECONDS = 15
_LOG_BYTES = 8 * 1024 * 1024
_INIT_OPTIONS = (
    *("--auth-local=trust", "--auth-host=reject", "--no-instructions"),
    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),  # the same on every system
)
_SERVER_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "cluster_name": "penstock",
    "log_checkpoints": "off",
    # The log must not hold records: no DETAIL ("Key (email)=(...) already exists"), no text of failed statements.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "fatal",
}
_HINTS = {
    "No space left on device": "The disk is full: free space and start again.",
    "Disk quota exceeded": "The disk quota is used up: free space and start again.",
    "Permission denied": "A permission is missing: the folder and all in it must belong to the user who runs Penstock.",
    "Read-only file system": "The file system is read-only: set PENSTOCK_DATA_DIR to a folder that can be written.",
    "wrong ownership": "The folder must belong to the user who runs Penstock.",
    "shared memory": "Processes of an earlier server may still run on this folder: end them, or wait, and start again.",
    "already exists": "Another server seems to run on this folder: end it and start again.",
}


class Cluster:
    """The cluster at `path`, which need not exist yet; `log` is the file that the server writes to.

    `options` are further server settings; `sync=False` makes initdb skip waiting for the disk (tests). Every method raises
    DatabaseUnavailableError with what to do.
    """

    def __init__(self, path: Path, log: Path, *, options: Mapping[str, str], sync: bool, namespaces: bool) -> None:
        self.path, self.log = path, log
        self._options = {**_SERVER_OPTIONS, **options}
        self._sync, self._namespaces = sync, namespaces

    @property
    def exists(self) -> bool:
        return (self.path / "PG_VERSION").exists()

    def create(self) -> None:
        """Make it with its database, under another name first: a crash half-way leaves no half cluster, only a folder to sweep."""
        for left_over in self.path.parent.glob(f"{self.path.name}.new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        programs = programs_folder()
        fresh = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.new-", dir=self.path.parent))
        account = account_for(self.path, namespaces=self._namespaces).reaching(self.path.parent, programs / "postgres")
        account.own(fresh)
        initdb = [*account.prefix, str(programs / "initdb"), "-D", str(fresh), f"--username={USER}", *_INIT_OPTIONS]
        single = [*account.prefix, str(programs / "postgres"), "--single", "-D", str(fresh), "-j"]
        try:
            self._run([*initdb, *([] if self._sync else ["--no-sync"])])
            self._run([*single, *([] if self._sync else ["-F"]), "postgres"], f"CREATE DATABASE {DATABASE}")
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        fresh.rename(self.path)
        _sync_folder(self.path.parent)

    def check_version(self) -> None:
        """Raises DatabaseRefusedError for a cluster that another major version made: PostgreSQL cannot read it."""
        found = (self.path / "PG_VERSION").read_text().strip()
        if found != str(MAJOR):
            raise DatabaseRefusedError(
                f"{self.path} holds a PostgreSQL {found} cluster, and this Penstock comes with PostgreSQL {MAJOR}. Use the Penstock "
                "that made it to export what it holds, or pg_upgrade, or set PENSTOCK_DATA_DIR to a new folder."
            )

    def running(self) -> int | None:
        """The process id of this folder's live postmaster, or None."""
        try:
            pid = int((self.path / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid > 0 and self._is_ours(pid) else None

    def start(self) -> None:
        """Start the server, which then outlives this process. Removes what a killed one left; waits, bounded, for its orphans."""
        programs = programs_folder()
        account = account_for(self.path, namespaces=self._namespaces)
        if account.other_user and self.path.stat().st_uid == 0:
            account.own(self.path)  # made in a namespace, on a kernel that had them
        account = account.reaching(self.path, programs / "postgres")
        deadline = time.monotonic() + _ORPHANS_SECONDS
        while True:
            # A dead postmaster's files stop the next one as long as its id is in use: by a zombie that nobody reaps, or by another program.
            for stale in ("postmaster.pid", f"{_SOCKET}.lock"):
                (self.path / stale).unlink(missing_ok=True)
            log_start = self._rotate_log()
            pid = self._spawn(account, programs)
            if self._answers(pid):
                return
            said = self._said_since(log_start)
            if "pre-existing shared memory" not in said or time.monotonic() > deadline:
                raise self._failure("did not start", said)
            time.sleep(0.2)

    def adopt(self, pid: int) -> bool:
        """Wait for the server that another process started to answer; False if it has died meanwhile."""
        if self._answers(pid):
            return True
        if alive(pid):
            raise self._failure("runs but does not answer", self._said_since(max(0, self.log.stat().st_size - 2000)))
        return False

    def stop(self) -> None:
        """Fast shutdown; after a minute an immediate one, which costs the next start a recovery and nothing else."""
        pid = self.running()
        for request, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, _KILL_SECONDS)):
            if pid is None or self._ended(pid, request, seconds):
                return
        raise self._failure("did not stop", self._said_since(max(0, self.log.stat().st_size - 2000)))

    def _ended(self, pid: int, request: signal.Signals, seconds: float) -> bool:
        try:
            os.kill(pid, request)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not alive(pid):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _spawn(self, account: Account, programs: Path) -> int:
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        command = [*account.prefix, str(programs / "postgres"), "-D", str(self.path), *options]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # A session of its own, so that Ctrl-C in the terminal does not reach it. No Popen: it would complain of a child that stays.
            return os.posix_spawn(
                command[0],
                command,
                _environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGPIPE, signal.SIGQUIT],
            )
        finally:
            os.close(log)

    def _answers(self, pid: int) -> bool:
        """Wait until the server takes connections; False once it is dead or too slow."""
        with socket_folder(self.path) as folder:
            began = time.monotonic()
            limit = _START_SECONDS
            while alive(pid) and time.monotonic() - began < limit:
                try:
                    psycopg.connect(conninfo(folder), connect_timeout=5).close()
                except psycopg.OperationalError:
                    if (self.path / _SOCKET).exists():
                        limit = _RECOVERY_SECONDS  # it listens: it replays its log after a crash
                    time.sleep(_POLL_SECONDS)
                else:
                    return True
        return False

    def _is_ours(self, pid: int) -> bool:
        """Whether the process lives and is this folder's postmaster; after a restart of the machine its id may be anybody's."""
        if not alive(pid):
            return False
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.path)
        except OSError:
            # No /proc (macOS); or root without CAP_SYS_PTRACE, as in containers, looking at another user's process.
            return f"-D {self.path} " in command_line(pid)

    def _run(self, command: list[str], given: str = "") -> None:
        try:
            done = subprocess.run(  # noqa: S603 - no shell; the programs of the wheel
                command,
                input=given,
                capture_output=True,
                text=True,
                errors="replace",
                env=_environment(),
                timeout=_INIT_SECONDS,
                check=False,
                cwd="/",
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failure("could not be set up", str(error)) from error
        # A single-user postgres goes on after a failed statement, and ends with status 0.
        if done.returncode or "ERROR:" in done.stderr:
            raise self._failure("could not be set up", done.stderr or done.stdout)

    def _failure(self, what: str, said: str) -> DatabaseUnavailableError:
        tail = "\n  ".join(said.strip().splitlines()[-8:]) or "(nothing)"
        hint = next((hint for text, hint in _HINTS.items() if text in said), f"Look into {self.log}.")
        get_logger(__name__).error("embedded PostgreSQL failed", what=what, folder=str(self.path), log=str(self.log))
        return DatabaseUnavailableError(f"The embedded PostgreSQL in {self.path} {what}. {hint} It said:\n  {tail}", folder=str(self.path))

    def _said_since(self, offset: int) -> str:
        with self.log.open("rb") as log:
            log.seek(offset)
            return log.read(64 * 1024).decode(errors="replace")

    def _rotate_log(self) -> int:
        """Keep the log and one before it; the bytes that it holds already."""
        if not self.log.exists():
            return 0
        if (size := self.log.stat().st_size) < _LOG_BYTES:
            return size
        self.log.replace(self.log.with_suffix(".log.1"))
        return 0


@contextmanager
def socket_folder(path: Path) -> Iterator[Path]:
    """A name for the cluster's folder that libpq can take as host: a private link to it where its own is too long or has a comma."""
    if len(os.fsencode(path)) <= _LONGEST_FOLDER and "," not in str(path):
        yield path
        return
    roots = (root for root in (tempfile.gettempdir(), "/tmp") if len(root) < _LONGEST_FOLDER // 2)  # noqa: S108 - mkdtemp makes it private
    with tempfile.TemporaryDirectory(prefix="penstock-", dir=next(roots)) as private:
        link = Path(private) / "d"
        link.symlink_to(path, target_is_directory=True)
        yield link


def conninfo(folder: Path) -> str:
    return make_conninfo(host=str(folder), port=PORT, user=USER, dbname=DATABASE)


def _environment() -> dict[str, str]:
    """Ours without what PostgreSQL would read, and with messages in English, which `_HINTS` knows."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
