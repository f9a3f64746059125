"""Under which account does a child run?

Postgres refuses root, and initdb refuses an account that has no line in /etc/passwd. Root steps
down inside a user namespace, where every file stays its own; where namespaces are refused (a
container's seccomp profile) it steps down for real.
"""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from service.local.errors import CannotStart
from service.local.processes import exec_wrapper


@dataclass(frozen=True, slots=True)
class OsAccount:
    """An account a child can run under, and how to become it."""

    mode: Literal["plain", "userns", "setuid"] = "plain"
    uid: int = 0
    gid: int = 0

    def wrap_command(self, *argv: str | Path, death_signal: int = 0) -> list[str]:
        """Return what to execute so that `argv` runs under this account."""
        account = (self.mode, str(self.uid), str(self.gid), str(int(death_signal)))
        program = map(str, argv)
        return [sys.executable, "-I", "-S", exec_wrapper.__file__, *account, "--", *program]

    def can_run(self, *argv: str | Path) -> bool:
        """Whether this account can be taken on here and `argv` succeeds under it."""
        try:
            run = subprocess.run(
                self.wrap_command(*argv), capture_output=True, cwd="/", check=False
            )
        except PermissionError:
            return False
        return run.returncode == 0


CURRENT_ACCOUNT: Final = OsAccount()


def choose_account(initdb: Path, *, allow_user_namespace: bool = True) -> OsAccount:
    """Return an account Postgres accepts, in a user namespace if that is wished and possible.

    Only an account reached by `setuid` may turn out unable to run `initdb`: copy it then.
    """
    root = os.geteuid() == 0
    if not root and _has_passwd_entry(os.geteuid()):
        return CURRENT_ACCOUNT
    account = _find_unprivileged_account()
    inside = OsAccount("userns", account.pw_uid, account.pw_gid)
    if allow_user_namespace and sys.platform == "linux" and inside.can_run(initdb, "--version"):
        return inside
    if root:
        return OsAccount("setuid", account.pw_uid, account.pw_gid)
    raise CannotStart(
        f"Postgres cannot run here: user id {os.geteuid()} has no line in /etc/passwd and this "
        f"machine refuses user namespaces. Add the account, or set HOLDFAST_DATABASE_URL."
    )


def _has_passwd_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _find_unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart(
        "Postgres refuses to run as root, and there is neither a postgres nor a nobody account "
        "on this machine. Add one, or set HOLDFAST_DATABASE_URL."
    )
